"""strongroom: nothing secret is opened anywhere until that place has proved what it is.

The public door. Names load on first use, so that `import strongroom` is quick and needs no extra.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from strongroom.appraisal.appraise import appraise as appraise
    from strongroom.client.client import AsyncClient as AsyncClient
    from strongroom.client.client import Client as Client
    from strongroom.client.verification import Verification as Verification
    from strongroom.errors import StrongroomError as StrongroomError
    from strongroom.records.policy import Policy as Policy
    from strongroom.records.receipt import Receipt as Receipt
    from strongroom.records.verdict import Level as Level
    from strongroom.records.verdict import Verdict as Verdict

_DOOR = {
    "AsyncClient": "strongroom.client.client",
    "Client": "strongroom.client.client",
    "Level": "strongroom.records.verdict",
    "Policy": "strongroom.records.policy",
    "Receipt": "strongroom.records.receipt",
    "StrongroomError": "strongroom.errors",
    "Verdict": "strongroom.records.verdict",
    "Verification": "strongroom.client.verification",
    "appraise": "strongroom.appraisal.appraise",
}

__all__ = ["__version__", *_DOOR]  # noqa: PLE0604 (the keys are strings)


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(import_module(_DOOR[name]), name)
    raise AttributeError(f"module 'strongroom' has no attribute {name!r}")

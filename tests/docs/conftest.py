"""A live stack for the examples of the documentation: broker, simulated chip, worker with the real model, user's proxy."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def live_stack() -> Iterator[dict[str, str]]:
    """What `make serve` starts, and the variables under which the documentation speaks of it."""
    from strongroom.demo.model import fetch_model
    from strongroom.demo.stack import stack
    from strongroom.demo.stay_up import _bring_up

    with tempfile.TemporaryDirectory(prefix="strongroom-docs-") as folder, stack(Path(folder)) as made:
        facts = _bring_up(made, fetch_model())
        yield {
            "WORKER": facts["worker"],
            "OPENAI_BASE_URL": facts["proxy"],
            "OPENAI_API_KEY": "none",
            "POLICY": facts["policy"],
            "ANCHOR": facts["anchor"],
            "BROKER": facts["broker"],
            "FINGERPRINT": facts["broker_fingerprint"],
            "OWNER": facts["identity"],
            "MODEL": facts["model"],
        }


@pytest.fixture(scope="session")
def live() -> Iterator[dict[str, str]]:
    """One stack for all documents."""
    with live_stack() as variables:
        yield variables


@pytest.fixture
def own() -> Iterator[dict[str, str]]:
    """A stack of its own, for a document that ends its worker."""
    with live_stack() as variables:
        yield variables


@pytest.fixture
def clean_up(tmp_path: Path) -> Iterator[Path]:
    """An empty folder to work in, removed at once: models are large."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)

"""The options of `strongroom serve` by which a worker's numbers leave it, and what becomes of them."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx2

from strongroom.cli import output
from strongroom.cli.output import F
from strongroom.errors import UsageError
from strongroom.records.digest import Digest

if TYPE_CHECKING:
    from strongroom.services.observed import Observer

MAX_TOKEN = 4096


def observing_options(command: F) -> F:
    """`--metrics-token`, `--otlp` and `--otlp-token`."""
    file = click.Path(dir_okay=False, path_type=Path)
    page = click.option(
        "--metrics-token",
        type=file,
        help="File with the bearer token for GET /metrics; without it there is no such page.",
    )
    collector = click.option(
        "--otlp", metavar="URL", help="OpenTelemetry collector for numbers and spans (OTLP over HTTP)."
    )
    token = click.option("--otlp-token", type=file, help="File with a bearer token for that collector.")
    return page(collector(token(command)))


@dataclass(frozen=True, slots=True)
class Observing:
    """Who may see the numbers. `settings` is what the measured configuration says of it."""

    metrics_token: Path | None
    otlp: str | None
    otlp_token: Path | None
    _page: Digest | None = field(init=False)

    def __post_init__(self) -> None:
        from strongroom.services.observed import token_digest

        given = None if self.metrics_token is None else output.read_file(self.metrics_token, limit=MAX_TOKEN)
        object.__setattr__(self, "_page", None if given is None else token_digest(given))
        if self.otlp is not None and httpx2.URL(self.otlp).scheme not in {"http", "https"}:
            raise UsageError("a collector's address begins with http:// or https://")
        if self.otlp is None and self.otlp_token is not None:
            raise UsageError("--otlp-token without --otlp", remedy="Name the collector.")

    @property
    def settings(self) -> dict[str, str | int]:
        """Nothing where nobody sees anything, so that a policy for such a worker stays as it is."""
        page: dict[str, str | int] = {} if self._page is None else {"metrics": self._page}
        return page if self.otlp is None else {**page, "otlp": self.otlp}

    def observer(self, model: str, slots: int) -> Observer:
        """What counts in the worker."""
        from strongroom.services.observed import Observer

        return Observer(model=model, slots=slots, token=self._page)

    def exporting(self, observer: Observer) -> AbstractContextManager[Any]:
        """Sends to the collector, if there is one, within `with`."""
        from strongroom.observe.otlp import Exporter

        if self.otlp is None:
            return contextlib.nullcontext()
        token = "" if self.otlp_token is None else _text(output.read_file(self.otlp_token, limit=MAX_TOKEN))
        return Exporter(self.otlp.rstrip("/"), observer.registry, observer.spans, token=token)


def _text(token: bytes) -> str:
    found = token.strip()
    if not found or not found.isascii() or not found.decode("ascii").isprintable():
        raise UsageError("a collector's token is printable ASCII")
    return found.decode("ascii")

"""`strongroom log witness`: watch brokers' logs, and sign each new state that extends what was seen before.

Here too: the options by which whoever checks a log names the witnesses that must have signed it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from strongroom.cli import output
from strongroom.errors import UsageError
from strongroom.receipts.cosignature import Quorum, Witness
from strongroom.receipts.note import parse_verifier_key

F = TypeVar("F", bound=Callable[..., Any])


def quorum_options(command: F) -> F:
    """`--witness` and `--witnesses`, for `quorum`."""
    least = click.option(
        "--witnesses",
        "least",
        type=click.IntRange(min=1),
        metavar="K",
        help="How many of them must have signed; else all.",
    )
    named = click.option(
        "--witness", "named", multiple=True, metavar="VKEY", help="A witness that must have signed the log; repeatable."
    )
    return named(least(command))


def quorum(named: tuple[str, ...], least: int | None) -> Quorum | None:
    """The witnesses that were named, or None where none was. Raises `UsageError`, `MalformedRecord`."""
    if not named and least is None:
        return None
    return Quorum(len(named) if least is None else least, tuple(Witness.parse(text) for text in named))


@click.command("witness")
@click.option("--name", required=True, help="Its name, as witness.example.org/1; it stands in every cosignature.")
@click.option("--log", "logs", multiple=True, required=True, metavar="VKEY", help="A log to watch; repeatable.")
@click.option(
    "--state",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Its folder; made at the first start.",
)
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Its private key (Ed25519); made at the first start. Otherwise in its folder.",
)
@click.option("--listen", default="127.0.0.1:8650", show_default=True, metavar="HOST:PORT")
@output.json_option
def witness(name: str, logs: tuple[str, ...], state: Path, key: Path | None, listen: str, *, as_json: bool) -> None:
    """Witness logs until told to stop. Prints the verifier key by which brokers and clients name this witness."""
    from strongroom.services.server import parse_listen, serve_until_signal
    from strongroom.services.witness import open_witness, witness_app

    host, port = parse_listen(listen)
    watched = dict(parse_verifier_key(text) for text in logs)
    if len(watched) != len(logs):
        raise UsageError("two of these logs have one name", remedy="Name each log once.")
    service = open_witness(state, name, watched, key=key)

    def ready(url: str) -> None:
        if as_json:
            click.echo(json.dumps({"state": "ready", "url": url, "witness": service.witness.key}))
        else:
            click.echo(f"ready    {url}\nwitness  {service.witness.key}")
        sys.stdout.flush()

    try:
        asyncio.run(serve_until_signal(witness_app(service), host=host, port=port, ready=ready))
    finally:
        service.store.close()

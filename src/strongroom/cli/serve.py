"""`strongroom serve`: the confidential inference service, one worker of it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from strongroom.cli import output
from strongroom.cli.remote import broker_address
from strongroom.cli.surroundings import surroundings_of, surroundings_options
from strongroom.records import codec
from strongroom.records.worker import Configuration
from strongroom.worker.life import State


@click.command("serve", short_help="the confidential inference service, one worker of it")
@click.argument("reference")
@broker_address
@surroundings_options
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT")
@click.option("--name", default="default", show_default=True, help="The model's name for clients.")
@click.option("--context", type=click.IntRange(256), default=4096, show_default=True, help="Tokens of context.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of the engine.")
@click.option(
    "--slots", type=click.IntRange(1, 64), default=1, show_default=True, help="Requests answered side by side."
)
@click.option("--show-configuration", is_flag=True, help="Print the digest that a policy pins, and end.")
@output.json_option
def serve_command(
    reference: str,
    listen: str,
    name: str,
    context: int,
    threads: int,
    slots: int,
    *,
    show_configuration: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Prove this place, obtain the key of the sealed model at REFERENCE, open it into memory and serve it.

    Ends with exit 1 when its lease ends: it has then drained and wiped.
    """
    from strongroom.services.server import parse_listen
    from strongroom.services.worker import configuration, inference, run_worker

    host, port = parse_listen(listen)
    surroundings = surroundings_of(**told)
    settings: dict[str, str | int] = {"name": name, "context": context, "threads": threads, "slots": slots}
    chosen = configuration("inference", surroundings, {"engine": "llama", **settings})
    if show_configuration:
        show(chosen, as_json=as_json)
        return
    workload = inference(
        settings,
        profile=surroundings.profile,
        host=host,
        port=port,
        ready=lambda url: report_line(as_json, "serving", url),
        slots=slots,
    )
    asyncio.run(run_worker(workload, surroundings, chosen, [reference], reporter(as_json=as_json)))


def show(chosen: Configuration, *, as_json: bool) -> None:
    """The digest that a policy pins, and for programs all that is in it."""
    if as_json:
        output.print_json({"configuration": chosen.digest, "record": codec.to_json(chosen)})
    else:
        click.echo(chosen.digest)


def report_line(as_json: bool, state: str, detail: str) -> None:  # noqa: FBT001 (a line of output has a form)
    """One state, as a line of JSON for programs or of text for people."""
    line = json.dumps({"state": state, "detail": detail}) if as_json else f"{state.ljust(9)} {detail}"
    click.echo(line)
    sys.stdout.flush()


def reporter(*, as_json: bool) -> Any:
    """What a worker tells its states to."""

    def report(state: State, text: str) -> None:
        report_line(as_json, state.value, text)

    return report

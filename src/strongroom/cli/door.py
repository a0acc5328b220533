"""`strongroom front-door`: one address before a fleet of workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

import click

from strongroom.cli import output
from strongroom.cli.remote import trust_options
from strongroom.cli.talk import trust_of


@click.command("front-door", short_help="one address before a fleet of verified workers")
@click.option(
    "--worker", "workers", multiple=True, metavar="URL", help="A worker of the fleet; it may start later. Repeatable."
)
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT")
@click.option(
    "--operators",
    metavar="HOST:PORT",
    help="Serve the fleet's report here, and let workers join; for those who run it alone.",
)
@trust_options
@output.json_option
def front_door_command(
    workers: tuple[str, ...], listen: str, operators: str | None, *, as_json: bool, **trust: Any
) -> None:
    """Admit workers by their evidence, under your policy, and carry sealed requests to them.

    It holds no key and reads nothing. Clients verify the worker that answers them for themselves.
    """
    from strongroom.client.client import AsyncClient
    from strongroom.errors import UsageError
    from strongroom.services.door import Door
    from strongroom.services.fleet import Fleet
    from strongroom.services.server import Server, parse_listen, serve_until_signal

    host, port = parse_listen(listen)
    inside = parse_listen(operators) if operators is not None else None
    if not workers and inside is None:
        raise UsageError("a door without workers", remedy="Name them with --worker, or let them join with --operators.")
    held = trust_of(**trust)
    fleet = Fleet(lambda url: AsyncClient(url, **held))
    for url in workers:
        fleet.add(url, configured=True)
    door = Door(fleet)

    def ready(state: str, url: str) -> None:
        click.echo(json.dumps({"state": state, "url": url}) if as_json else f"{state.ljust(9)} {url}")
        sys.stdout.flush()

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(fleet.watched())
            if inside is not None:
                server = await stack.enter_async_context(Server(door.operators, host=inside[0], port=inside[1]))
                ready("operators", server.url)
            await serve_until_signal(door.app, host=host, port=port, ready=lambda url: ready("ready", url))

    asyncio.run(run())

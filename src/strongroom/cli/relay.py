"""`strongroom relay`: an oblivious relay before a worker."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from strongroom.cli import output


@click.command("relay", short_help="hide from a worker who asks, without reading what")
@click.option("--to", "target", required=True, metavar="URL", help="The worker, or what stands before it.")
@click.option("--listen", default="127.0.0.1:8444", show_default=True, metavar="HOST:PORT")
@click.option(
    "--rate", type=click.IntRange(1), default=100, show_default=True, help="Requests a second, of all askers."
)
@output.json_option
def relay_command(target: str, listen: str, rate: int, *, as_json: bool) -> None:
    """Carry encapsulated requests to the worker at --to, and nothing that tells who sent them.

    Run it where whoever runs the worker has no say: together, relay and worker know who asked what.
    """
    from strongroom.services.relay import Relay
    from strongroom.services.server import parse_listen, serve_until_signal

    host, port = parse_listen(listen)
    relay = Relay(target, rate=rate)

    def ready(url: str) -> None:
        click.echo(json.dumps({"state": "ready", "url": url}) if as_json else f"ready    {url}")
        sys.stdout.flush()

    asyncio.run(serve_until_signal(relay.app, host=host, port=port, ready=ready))

"""`strongroom demo`: the main job on this machine, then attacks on it, each refused."""

from __future__ import annotations

import click

from strongroom.cli import output


@click.command("demo", short_help="the main job here, then attacks on it, each refused")
@click.option("--serve", "stay", is_flag=True, help="Start the same stack and leave it running for you to talk to.")
@output.json_option
def demo_command(*, stay: bool, as_json: bool) -> None:
    """Tell the whole story with real processes, a real model and a simulated TEE. Exit 0 only if all went as it must."""
    from strongroom.demo import screen, stay_up, story

    if stay:
        stay_up.stay(as_json=as_json)
        return
    told = story.tell(screen.Silent() if as_json else screen.Terminal())
    if as_json:
        output.print_json(told.as_json())
    if not told.ok:
        raise click.exceptions.Exit(1)

"""`strongroom demo`: the main job on this machine, then attacks on it, each refused."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output


@click.command("demo", short_help="the main job here, then attacks on it, each refused")
@click.option("--serve", "stay", is_flag=True, help="Start the same stack and leave it running for you to talk to.")
@click.option(
    "--vm",
    "parts",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="In a virtual machine that boots for real, from the files of a worker image in FOLDER (`make demo-vm`).",
)
@click.option(
    "--driver",
    type=click.Choice(["qemu", "libvirt"]),
    help="With --vm: who starts the machines. [default: qemu]",
)
@output.json_option
def demo_command(*, stay: bool, parts: Path | None, driver: str | None, as_json: bool) -> None:
    """Tell the whole story with real processes, a real model and a simulated TEE. Exit 0 only if all went as it must."""
    from strongroom.demo import screen, stay_up, story

    if driver is not None and parts is None:
        raise click.UsageError("--driver is for the machines of --vm")
    if stay:
        stay_up.stay(as_json=as_json)
        return
    shown = screen.Silent() if as_json else screen.Terminal()
    if parts is None:
        told = story.tell(shown)
    else:
        from strongroom.demo.vm import story as machines

        told = machines.tell(shown, parts, driver=driver or "qemu")
    if as_json:
        output.print_json(told.as_json())
    if not told.ok:
        raise click.exceptions.Exit(1)

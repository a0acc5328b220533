"""`strongroom launch observe`: the one register of a firmware that nobody can compute."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output
from strongroom.cli.measure import load_spec

STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"


@click.command("observe")
@click.argument("path", metavar="SPEC", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--driver", "driver_name", type=click.Choice(["qemu", "libvirt"]), default="qemu", show_default=True)
@click.option(
    "--stub",
    type=click.Path(dir_okay=False, path_type=Path),
    default=STUB,
    show_default=True,
    help="systemd's stub (Debian: systemd-boot-efi), around which the small system is put; nothing that is seen depends on it.",
)
@output.json_option
def observe(path: Path, driver_name: str, stub: Path, *, as_json: bool) -> None:
    """Boot the firmware of SPEC once, with a system that has no secret and shows PCR 0, and print it as SPEC has to say it.

    Do it on a machine of yours: what is pinned is what is seen here. It needs busybox, and takes some ten seconds under emulation.
    """
    from strongroom.launch import observe as observing
    from strongroom.launch.doctor import machine
    from strongroom.launch.life.drivers import driver
    from strongroom.launch.life.preflight import accelerator

    found = observing.observe(
        load_spec(path),
        path.resolve().parent,
        driver(driver_name),
        stub=output.read_file(stub),
        accelerator=accelerator(machine(Path("/"))),
    )
    if as_json:
        output.print_json({"observed": found})
    else:
        click.echo("[firmware.observed]")
        for name, value in found.items():
            click.echo(f'{name} = "{value}"')

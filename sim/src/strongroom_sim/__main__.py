"""`python -m strongroom_sim`: make an installation, serve a simulated chip.

Knows: arguments, signals, exit codes. Does not know: how any of it works.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path

import click

from strongroom.errors import StrongroomError, UsageError
from strongroom.records.digest import Digest, is_digest
from strongroom_sim import abi, guard
from strongroom_sim.ca import Installation
from strongroom_sim.chip import Chip
from strongroom_sim.launch import measure_image, mrconfigid_for, mrtd_for


@click.group()
def main() -> None:
    """Simulated TDX chips for development and tests. They protect nothing."""
    click.echo(guard.WARNING, err=True)
    guard.refuse_beside_real_tee()


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def init(directory: Path) -> None:
    """Make a new installation: its own root, CAs, machine and collateral."""
    installation = Installation.create(directory, now=int(time.time()))
    click.echo(json.dumps({"installation": str(directory), "anchor": str(installation.directory / "root.pem")}))


@main.command()
@click.option("--installation", "directory", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--root", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where to serve; new.")
@click.option("--image", help="The digest of the image to measure.")
@click.option("--measure", type=click.Path(path_type=Path, file_okay=False), help="A package to measure as the image.")
@click.option("--launch-spec", help="The digest of the launch specification.")
def chip(directory: Path, root: Path, image: str | None, measure: Path | None, launch_spec: str | None) -> None:
    """Serve one simulated TD until SIGTERM, or until the parent process ends."""
    if (image is None) == (measure is None):
        raise UsageError("name either --image or --measure", remedy="See python -m strongroom_sim chip --help")
    measured = _digest(image) if image is not None else measure_image(measure or Path())
    specified = _digest(launch_spec) if launch_spec is not None else None
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    stop = abi.stop_with_parent(told.is_set)
    td = Chip(Installation.load(directory), mrtd=mrtd_for(measured), mrconfigid=mrconfigid_for(specified))
    with abi.Device(td, root) as device:
        ready = {
            "state": "ready",
            "simulated": True,
            "root": str(root),
            "image": measured,
            "mrtd": mrtd_for(measured).hex(),
        }
        click.echo(json.dumps(ready))
        device.serve(stop)


def _digest(text: str) -> Digest:
    if not is_digest(text):
        raise UsageError(f"{text[:80]!r} is not a digest", remedy="A digest is sha256: and 64 hexadecimal digits.")
    return Digest(text)


def run() -> None:
    """Run the command line; every error ends in one clear line."""
    try:
        main(standalone_mode=False)
    except StrongroomError as error:
        click.echo(f"error: {error.message} [{error.code}]\n  {error.remedy}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(1)


if __name__ == "__main__":
    run()

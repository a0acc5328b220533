"""`strongroom image`: the worker image, from a lock to one file, and what is in it."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli import output
from strongroom.errors import UsageError
from strongroom.launch.image import tcb
from strongroom.launch.image.build import build, read_configuration
from strongroom.launch.image.fetch import fetch
from strongroom.launch.image.lock import make_lock, read_lock, to_toml

MAX_IMAGE = 1 << 30
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("image", short_help="the worker image: lock, build, and look into it")
def image_command() -> None:
    """The worker image: a unified kernel image of Debian packages and wheels that a lock names, the same bytes each time."""


@image_command.command("fetch")
@click.argument("folder", type=FOLDER)
@click.option(
    "--requirements", required=True, type=FILE, help="Pinned wheels with their digests: requirements/demo.txt."
)
@output.json_option
def fetch_command(folder: Path, requirements: Path, *, as_json: bool) -> None:
    """Fill an empty FOLDER by apt and pip with what an image is made of, but for our own wheel (`make wheel`)."""
    fetch(folder, output.read_file(requirements).decode("utf-8", "replace"))
    found = sorted(path.name for path in folder.iterdir())
    if as_json:
        output.print_json({"folder": str(folder), "files": found})
    else:
        click.echo(f"{folder}: {len(found)} files")


@image_command.command("lock")
@click.argument("folder", type=FOLDER)
@click.option("-o", "--output", "target", required=True, type=FILE, help="Write the lock here.")
@output.json_option
def lock_command(folder: Path, target: Path, *, as_json: bool) -> None:
    """Write down every package and wheel in FOLDER by name, version and SHA-256. Nothing else goes into an image."""
    lock = make_lock(folder)
    output.write_file(target, to_toml(lock).encode())
    if as_json:
        output.print_json({"lock": str(target), "debs": len(lock.deb), "wheels": len(lock.wheel)})
    else:
        click.echo(f"{target}: {len(lock.deb)} packages, {len(lock.wheel)} wheels")


@image_command.command("build")
@click.argument("lock", type=FILE)
@click.option("--files", required=True, type=FOLDER, help="Where the files of the lock are.")
@click.option(
    "--configuration",
    required=True,
    type=click.Path(path_type=Path),
    help="machine.toml, or a folder with it and its files.",
)
@click.option("-o", "--output", "target", required=True, type=FILE, help="Write the image here.")
@output.json_option
def build_command(lock: Path, files: Path, configuration: Path, target: Path, *, as_json: bool) -> None:
    """Make the image that LOCK describes. The same lock, files and configuration give the same bytes, wherever and whenever."""
    if target.exists():
        raise UsageError(f"{target} is already there", remedy="Choose another name; strongroom overwrites nothing.")
    told = read_configuration(configuration)
    data = build(read_lock(output.read_file(lock).decode("utf-8", "replace")), files, told)
    output.write_file(target, data)
    _report(tcb.contents(data), as_json=as_json)


@image_command.command("show")
@click.argument("image", type=FILE)
@output.json_option
def show_command(image: Path, *, as_json: bool) -> None:
    """What is in IMAGE, counted in the image itself: its trusted computing base, by package; with --json every file, too."""
    _report(tcb.contents(output.read_file(image, limit=MAX_IMAGE)), as_json=as_json)


def _report(found: tcb.Contents, *, as_json: bool) -> None:
    if as_json:
        output.print_json(found.as_json())
        return
    click.echo(f"image         {found.image}\nbytes         {found.size}\ncommand line  {found.command_line}\n")
    named = {row["origin"]: f"{row['name']} {row['version']}" for row in found.packages}
    rows = [
        (named.get(source, source), share.files, share.python_lines, share.native_bytes, share.kernel_bytes)
        for source, share in sorted(found.shares.items(), key=lambda item: -item[1].python_lines - item[1].native_bytes)
    ]
    total = found.total
    rows.append(("all", total.files, total.python_lines, total.native_bytes, total.kernel_bytes))
    output.table(("package", "files", "Python lines", "native bytes", "kernel bytes"), rows)

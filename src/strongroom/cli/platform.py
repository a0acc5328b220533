"""`strongroom bench platform`: measuring, comparing, printing. The rest of `bench` is in `bench.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from strongroom.bench.platform.compare import Comparison, compare
from strongroom.bench.platform.plot import bar, svg
from strongroom.bench.platform.probe import Sizes
from strongroom.bench.platform.saved import MOST_BYTES, Saved, parse
from strongroom.cli import output
from strongroom.errors import StrongroomError, UsageError

F = Callable[..., None]
DEFAULT_MIB = 512


def options(command: F) -> F:
    """What only `bench platform` takes."""
    for option in (
        click.option(
            "--anyway", is_flag=True, help="platform: compare runs of different code or settings too, and say so."
        ),
        click.option(
            "--plot", type=click.Path(dir_okay=False, path_type=Path), help="platform: write the comparison as SVG."
        ),
        click.option(
            "--compare",
            "saved",
            nargs=2,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="PLAIN PROTECTED",
            help="platform: measure nothing, and hold two saved runs against each other.",
        ),
        click.option(
            "--folder",
            type=click.Path(file_okay=False, exists=True, path_type=Path),
            default=".",
            show_default=True,
            help="platform: a folder on the disk that is measured.",
        ),
    ):
        command = option(command)
    return command


def check(name: str, *, saved: object, plot: Path | None, anyway: bool) -> None:
    """Raises `UsageError` for options that have no meaning here."""
    if name != "platform" and (saved or plot or anyway):
        raise UsageError("--compare, --plot and --anyway are for `bench platform`")
    if not saved and (plot or anyway):
        raise UsageError("--plot and --anyway go with --compare")


def measure(
    *,
    runs: int,
    mebibytes: int | None,
    tokens: int,
    folder: Path,
    model: Path | None,
    save: Path | None,
    date: str,
    as_json: bool,
) -> None:
    """Measure this machine, print, and keep it where `save` says."""
    from strongroom.bench.platform.run import run

    saved = run(
        runs=runs,
        sizes=sizes(mebibytes, tokens),
        folder=folder,
        weights=model or _model(),
        date=date,
        progress=output.Progress("bench platform", quiet=as_json),
    )
    if save is not None:
        output.write_file(save / f"platform-{date}.json", json.dumps(saved.as_json(), indent=1).encode() + b"\n")
    if as_json:
        output.print_json(saved.as_json())
    else:
        _print_run(saved)


def sizes(mebibytes: int | None, tokens: int) -> Sizes:
    """Sizes of which the largest is so many MiB; what is not a buffer keeps its count."""
    most, usual = mebibytes or DEFAULT_MIB, Sizes()
    return Sizes(
        copy_mib=most,
        fault_mib=min(most, usual.fault_mib),
        disk_mib=min(most, usual.disk_mib),
        stream_mib=min(most, usual.stream_mib),
        gpu_mib=min(most, usual.gpu_mib),
        tokens=tokens,
    )


def compare_files(plain: Path, protected: Path, *, anyway: bool, plot: Path | None, as_json: bool) -> None:
    """Hold two saved runs against each other. Raises `UsageError` where they are not alike, `MalformedRecord` for bad files."""
    one, other = (parse(output.read_file(path, limit=MOST_BYTES)) for path in (plain, protected))
    found = compare(one, other, anyway=anyway)
    if plot is not None:
        output.write_file(plot, svg(found).encode())
    if as_json:
        output.print_json(found.as_json())
    else:
        _print_comparison(found)


def _model() -> Path | None:
    """The demo's model; nothing where it cannot be had, since there are other figures."""
    from strongroom.demo.model import fetch_model

    try:
        return fetch_model()
    except StrongroomError as error:
        click.echo(f"the model is not here: {error.message}", err=True)
        return None


def _print_run(saved: Saved) -> None:
    click.echo(f"{saved.machine}, {saved.date}")
    said = {
        name: saved.environment.get(name, "unknown")
        for name in ("tee", "virtual", "memory", "file_system", "load", "cpus")
    }
    click.echo(
        f"tee: {said['tee']} (by its own word)   virtual: {said['virtual']}   memory: {said['memory']}   disk: {said['file_system']}"
    )
    click.echo(f"load before it began: {said['load']} on {said['cpus']} CPUs\n")
    found = [each.figure for each in saved.measured]
    output.table(
        ("FIGURE", "MEDIAN", "95 % INTERVAL", "RUNS", "WHAT"),
        [(f.id, f"{f.value:g} {f.unit}", f"{f.interval[0]:g} … {f.interval[1]:g}", f.runs, f.baseline) for f in found],
    )
    for missing in saved.skipped:
        click.echo(missing)


def _print_comparison(found: Comparison) -> None:
    click.echo(f"plain      {found.plain}\nprotected  {found.protected}")
    for text in found.differences:
        click.echo(f"NOT ALIKE  {text}")
    for text in found.remarks:
        click.echo(f"note       {text}")
    click.echo("\nfactor: the time that the same work takes, protected over plain\n")
    output.table(
        ("FIGURE", "PLAIN", "PROTECTED", "FACTOR", "95 % INTERVAL", "", "FASTER │ SLOWER"),
        [
            (
                cost.id,
                f"{cost.plain:g} {cost.unit}",
                f"{cost.protected:g} {cost.unit}",
                f"{cost.factor:g}",
                f"{cost.interval[0]:g} … {cost.interval[1]:g}",
                cost.verdict,
                bar(cost, found.costs),
            )
            for cost in found.costs
        ],
    )
    for name in found.alone:
        click.echo(f"{name}: only in one of the two")

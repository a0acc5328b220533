"""`strongroom bench`: the figures of this machine, as ratios against a named baseline in the same run."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import click

from strongroom.bench.figures import Figure
from strongroom.cli import output, platform
from strongroom.errors import UsageError

MODEL_MIB = 4096


@click.command("bench", short_help="figures of this machine, as ratios to a named baseline")
@click.argument("name", type=click.Choice(["broker", "inference", "launch", "open", "padding", "platform", "verify"]))
@click.option(
    "--pairs",
    type=click.IntRange(5),
    default=40,
    show_default=True,
    help="Pairs of runs; at least 30 to be worth keeping.",
)
@click.option("--tokens", type=click.IntRange(2), default=64, show_default=True, help="Length of each answer.")
@click.option(
    "--size",
    type=click.IntRange(8),
    help="open: MiB of the model (4096); platform: MiB of its largest buffers (512).",
)
@click.option(
    "--model", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A GGUF file; else the demo's model."
)
@click.option(
    "--spec",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The launch specification that `launch` boots; nothing inside is asked.",
)
@click.option(
    "--vm",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="launch: the worker image's files (`make demo-vm`); its machine is measured until it is ready.",
)
@click.option(
    "--driver",
    type=click.Choice(["qemu", "libvirt"]),
    default="qemu",
    show_default=True,
    help="launch: who starts the machines.",
)
@click.option(
    "--save",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Write the document into this folder as well.",
)
@platform.options
@output.json_option
def bench_command(
    name: str,
    pairs: int,
    tokens: int,
    size: int | None,
    model: Path | None,
    spec: Path | None,
    vm: Path | None,
    driver: str,
    save: Path | None,
    folder: Path,
    saved: tuple[Path, Path] | None,
    plot: Path | None,
    *,
    anyway: bool,
    as_json: bool,
) -> None:
    """Measure NAME. Exit 0 if every goal is met; 1 if one is missed or not resolved. `platform` has no goals."""
    from strongroom.bench import figures

    platform.check(name, saved=saved, plot=plot, anyway=anyway)
    date = dt.datetime.now(dt.UTC).date().isoformat()
    if name == "platform":
        if saved is not None:
            platform.compare_files(*saved, anyway=anyway, plot=plot, as_json=as_json)
        else:
            platform.measure(
                runs=pairs,
                mebibytes=size,
                tokens=tokens,
                folder=folder,
                model=model,
                save=save,
                date=date,
                as_json=as_json,
            )
        return

    progress = output.Progress(f"bench {name}", quiet=as_json)
    measures: dict[str, Callable[[], list[Figure]]] = {
        "broker": lambda: _broker(pairs, progress),
        "inference": lambda: _inference(model, pairs, tokens, progress),
        "launch": lambda: _launch(spec, vm, driver, pairs, progress),
        "open": lambda: _open(pairs, size or MODEL_MIB, progress),
        "padding": lambda: _padding(model, tokens, progress),
        "verify": lambda: _verify(pairs, progress),
    }
    found = measures[name]()
    document = {
        "name": name,
        "machine": figures.machine(),
        "date": date,
        "figures": [figure.as_json() for figure in found],
        **({"skipped": skipped} if (skipped := _skipped(name)) else {}),
    }
    if save is not None:
        output.write_file(save / f"{name}-{document['date']}.json", json.dumps(document, indent=2).encode() + b"\n")
    if as_json:
        output.print_json(document)
    else:
        click.echo(f"{document['machine']}, {document['date']}")
        output.table(
            ("FIGURE", "MEDIAN", "95 % INTERVAL", "GOAL", "RUNS", "VERDICT"),
            [
                (f.id, f"{f.value:g} {f.unit}", f"{f.interval[0]:g} … {f.interval[1]:g}", f"{f.goal[0]} {f.goal[1]:g}", f.runs, f.verdict)
                for f in found
            ],
        )  # fmt: skip
        for missing in skipped:
            click.echo(f"skipped: {missing}")
    if any(figure.verdict != "met" for figure in found):
        raise click.exceptions.Exit(1)


def _broker(pairs: int, progress: output.Progress) -> list[Figure]:
    from strongroom.bench.broker import broker

    return broker(pairs=pairs, progress=progress)


def _inference(model: Path | None, pairs: int, tokens: int, progress: output.Progress) -> list[Figure]:
    """The same stream against the engine's own server; the gateway's processor time; what lengths and times tell."""
    from strongroom.bench import inference, padding, streams
    from strongroom.channel.pacing import Pacing
    from strongroom.demo.model import fetch_model

    found = model or fetch_model()
    return [
        *inference.inference(found, pairs=pairs, tokens=tokens, progress=progress),
        *streams.streams(runs=max(5, pairs // 4), progress=progress),
        *(each for each in padding.padding(found, tokens=tokens, progress=progress) if padding.is_of(each, Pacing())),
    ]


def _skipped(name: str) -> list[str]:
    from strongroom.bench import inference

    return inference.skipped() if name == "inference" else []


def _launch(
    spec: Path | None, vm: Path | None, driver_name: str, pairs: int, progress: output.Progress
) -> list[Figure]:
    from strongroom.bench.launch import launching
    from strongroom.cli.measure import load_spec
    from strongroom.launch.doctor import machine
    from strongroom.launch.life.drivers import driver
    from strongroom.launch.life.preflight import accelerator
    from strongroom.launch.place import Place

    if vm is not None:
        from strongroom.demo.vm.prepared import prepared

        with prepared(vm, driver_name) as (kept, attest):
            here = kept.launcher
            return launching(kept.spec, here.place, here.driver, runs=pairs, progress=progress, attest=attest)
    if spec is None:
        raise UsageError("which machine is booted?", remedy="Give its launch specification with --spec, or --vm.")
    place = Place(images=spec.resolve().parent, state=Path(), accelerator=accelerator(machine(Path("/"))))
    return launching(load_spec(spec), place, driver(driver_name), runs=pairs, progress=progress)


def _open(pairs: int, size: int, progress: output.Progress) -> list[Figure]:
    from strongroom.bench.opening import opening

    return opening(pairs=pairs, mebibytes=size, progress=progress)


def _padding(model: Path | None, tokens: int, progress: output.Progress) -> list[Figure]:
    from strongroom.bench.padding import padding
    from strongroom.demo.model import fetch_model

    return padding(model or fetch_model(), tokens=tokens, progress=progress)


def _verify(pairs: int, progress: output.Progress) -> list[Figure]:
    from strongroom.bench.verify import verify

    return verify(pairs=pairs, progress=progress)

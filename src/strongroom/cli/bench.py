"""`strongroom bench`: the figures of this machine, as ratios against a named baseline in the same run."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import click

from strongroom.bench.figures import Figure
from strongroom.cli import output


@click.command("bench", short_help="figures of this machine, as ratios to a named baseline")
@click.argument("name", type=click.Choice(["broker", "inference", "open", "padding", "verify"]))
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
    default=4096,
    show_default=True,
    help="MiB of the model that is sealed and opened.",
)
@click.option(
    "--model", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A GGUF file; else the demo's model."
)
@click.option(
    "--save",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Write the document into this folder as well.",
)
@output.json_option
def bench_command(
    name: str, pairs: int, tokens: int, size: int, model: Path | None, save: Path | None, *, as_json: bool
) -> None:
    """Measure NAME. Exit 0 if every goal is met; 1 if one is missed or not resolved."""
    from strongroom.bench import figures

    progress = output.Progress(f"bench {name}", quiet=as_json)
    measures: dict[str, Callable[[], list[Figure]]] = {
        "broker": lambda: _broker(pairs, progress),
        "inference": lambda: _inference(model, pairs, tokens, progress),
        "open": lambda: _open(pairs, size, progress),
        "padding": lambda: _padding(model, tokens, progress),
        "verify": lambda: _verify(pairs, progress),
    }
    found = measures[name]()
    document = {
        "name": name,
        "machine": figures.machine(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "figures": [figure.as_json() for figure in found],
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
    if any(figure.verdict != "met" for figure in found):
        raise click.exceptions.Exit(1)


def _broker(pairs: int, progress: output.Progress) -> list[Figure]:
    from strongroom.bench.broker import broker

    return broker(pairs=pairs, progress=progress)


def _inference(model: Path | None, pairs: int, tokens: int, progress: output.Progress) -> list[Figure]:
    from strongroom.bench.inference import inference
    from strongroom.demo.model import fetch_model

    return inference(model or fetch_model(), pairs=pairs, tokens=tokens, progress=progress)


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

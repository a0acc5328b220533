"""One run as a file: the form of the other benchmarks' documents, with all samples, and with what the run was made of.

Knows: what such a document holds; that a median is that of its samples. Does not know: whether the machine told
the truth. Not covered: signatures; who compares saved runs trusts whoever saved them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strongroom.bench.figures import Figure, Goal, figure
from strongroom.bench.platform.probe import Better
from strongroom.errors import MalformedRecord
from strongroom.records import codec

NAME = "platform"
MOST_BYTES = 4 << 20
MOST_FIGURES, MOST_SAMPLES, LONGEST = 50, 200, 400
LEAST_SAMPLES = 5
GOALS: Mapping[Better, Goal] = {"more": (">=", 0.0), "less": ("<=", math.inf)}
"""Nothing is judged here: the goals only say which way is good, in the form that all benchmarks share."""
_NAME = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure and the samples behind it."""

    figure: Figure
    samples: tuple[float, ...]

    @property
    def better(self) -> Better:
        return "more" if self.figure.goal[0] == ">=" else "less"


@dataclass(frozen=True, slots=True)
class Saved:
    """One run. `code` and `settings` decide whether two runs may be compared; `environment` is what they are compared for."""

    machine: str
    date: str
    measured: tuple[Measured, ...]
    skipped: tuple[str, ...]
    code: Mapping[str, str]
    settings: Mapping[str, int]
    environment: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "name": NAME,
            "machine": self.machine,
            "date": self.date,
            "figures": [{**each.figure.as_json(), "samples": list(each.samples)} for each in self.measured],
            "skipped": list(self.skipped),
            "code": dict(self.code),
            "settings": dict(self.settings),
            "environment": dict(self.environment),
        }


def measured(identifier: str, unit: str, better: Better, what: str, samples: Sequence[float]) -> Measured:
    """A figure of positive samples, each kept with six digits. Raises `MalformedRecord` for what is no measurement."""
    kept = _samples([float(f"{sample:.6g}") for sample in samples], identifier)
    return Measured(figure(identifier, kept, unit=unit, baseline=what, goal=GOALS[better]), kept)


def parse(data: bytes) -> Saved:
    """The document of a run. Raises `MalformedRecord` for anything that `Saved.as_json` does not write."""
    document = codec.parse_json(data, limit=MOST_BYTES, read_float=float)
    _need(isinstance(document, dict), "the document")
    _need(set(document) == _FIELDS and document["name"] == NAME, "what is in it")
    figures, skipped = _list(document["figures"], MOST_FIGURES), _list(document["skipped"], MOST_FIGURES)
    found = tuple(_measured(each) for each in figures)
    _need(len({each.figure.id for each in found}) == len(found), "figures")
    sizes = _mapping(document["settings"])
    _need(all(type(value) is int for value in sizes.values()), "settings")
    return Saved(
        machine=_text(document["machine"]),
        date=_text(document["date"]),
        measured=found,
        skipped=tuple(_text(each) for each in skipped),
        code={name: _text(value) for name, value in _mapping(document["code"]).items()},
        settings=sizes,
        environment={name: _text(value) for name, value in _mapping(document["environment"]).items()},
    )


_FIELDS = {"name", "machine", "date", "figures", "skipped", "code", "settings", "environment"}
_FIGURE = {"id", "value", "unit", "baseline", "goal", "runs", "interval", "samples"}


def _measured(value: Any) -> Measured:
    """A figure whose median is that of its samples. Its interval is only read: comparing makes one of its own."""
    _need(isinstance(value, dict) and set(value) == _FIGURE, "a figure")
    name, interval = _text(value["id"]), _list(value["interval"], 2)
    _need(_NAME.fullmatch(name) is not None, "a figure's name")
    samples = _samples(_list(value["samples"], MOST_SAMPLES), name)
    median = round(statistics.median(samples), 4)
    _need(len(interval) == len(("from", "to")) and all(type(edge) is float for edge in interval), name)
    _need(type(value["value"]) is float and type(value["runs"]) is int, name)
    _need(value["value"] == median and value["runs"] == len(samples) and interval[0] <= median <= interval[1], name)
    better: Better = "more" if value["goal"] == f"{GOALS['more'][0]} {GOALS['more'][1]:g}" else "less"
    edges = (interval[0], interval[1])
    made = Figure(name, median, _text(value["unit"]), _text(value["baseline"]), GOALS[better], len(samples), edges)
    _need(made.as_json()["goal"] == value["goal"], name)
    return Measured(made, samples)


def _samples(samples: Sequence[Any], name: str) -> tuple[float, ...]:
    """Enough numbers, and not too many, each positive and finite."""
    _need(LEAST_SAMPLES <= len(samples) <= MOST_SAMPLES, f"{name}: the number of samples")
    _need(all(type(sample) is float and 0 < sample < math.inf for sample in samples), f"{name}: a sample")
    return tuple(samples)


def _text(value: Any) -> str:
    _need(isinstance(value, str) and len(value) <= LONGEST and value.isprintable(), "a text")
    return str(value)


def _list(value: Any, most: int) -> list[Any]:
    _need(isinstance(value, list) and len(value) <= most, "a list")
    return list(value)


def _mapping(value: Any) -> dict[str, Any]:
    _need(isinstance(value, dict) and len(value) <= MOST_FIGURES, "a mapping")
    _need(all(_NAME.fullmatch(name) for name in value), "a name")
    return dict(value)


def _need(condition: bool, where: str) -> None:  # noqa: FBT001 (an assertion)
    if not condition:
        raise MalformedRecord(
            f"this is no saved run of `bench platform`: {where} is not as it writes it",
            remedy="Give files that `strongroom bench platform --save FOLDER` wrote.",
        )

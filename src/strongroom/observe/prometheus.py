"""Numbers in Prometheus's text format, version 0.0.4.

Knows: the format. Does not know: HTTP, which numbers there are. Not covered: OpenMetrics, exemplars, timestamps.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, groupby

from strongroom.observe.registry import Series

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(series: Iterable[Series]) -> str:
    """The page; `series` in the order of the table."""
    lines: list[str] = []
    for metric, of_it in groupby(series, key=lambda one: one.metric):
        lines += [f"# HELP {metric.name} {_escaped(metric.help)}", f"# TYPE {metric.name} {metric.kind}"]
        for one in of_it:
            lines += _histogram(one) if metric.kind == "histogram" else [_line(metric.name, one.labels, one.value)]
    return "".join(f"{line}\n" for line in lines)


def _histogram(one: Series) -> list[str]:
    name, edges = one.metric.name, [*(_number(edge) for edge in one.metric.edges), "+Inf"]
    counts = list(accumulate(one.buckets))
    buckets = [
        _line(f"{name}_bucket", (*one.labels, ("le", edge)), count) for edge, count in zip(edges, counts, strict=True)
    ]
    return [*buckets, _line(f"{name}_sum", one.labels, one.value), _line(f"{name}_count", one.labels, counts[-1])]


def _line(name: str, labels: tuple[tuple[str, str], ...], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text, quote=True)}"' for label, text in labels)
    return f"{name}{'{' + inside + '}' if inside else ''} {_number(value)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str, *, quote: bool = False) -> str:
    found = text.replace("\\", "\\\\").replace("\n", "\\n")
    return found.replace('"', '\\"') if quote else found

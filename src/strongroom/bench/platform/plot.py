"""Costs as a picture: an SVG of our own, and bars for a terminal.

Knows: how to draw factors around 1, on a logarithmic scale, so that half and twice are equally far. Does not know: what they mean.
"""

from __future__ import annotations

import math
from xml.sax.saxutils import escape, quoteattr  # only written, never parsed

from strongroom.bench.platform.compare import Comparison, Cost

LEFT, WIDTH, RIGHT, ROW, TOP = 190, 520, 190, 26, 64
COLOURS = {"slower": "#b3402a", "faster": "#2a7d4f", "no difference seen": "#777777"}
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
NARROWEST = 2.0
COLUMNS = 30
FONT = 'font-family="sans-serif" font-size="12"'


def svg(comparison: Comparison) -> str:
    """The picture, as a whole file."""
    reach = _reach(comparison.costs)
    height = TOP + ROW * len(comparison.costs) + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" {FONT}>',
        f"<title>{escape('What confidentiality costs: time for the same work, protected over plain')}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _words(10, 18, f"plain: {comparison.plain}"),
        _words(10, 34, f"protected: {comparison.protected}"),
    ]
    for step in STEPS:
        if abs(math.log(step)) <= reach:
            x = _place(step, reach)
            lines += [
                f'<line x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{height - 26}" stroke="{"#000000" if step == 1 else "#dddddd"}"/>',
                _words(x, height - 10, f"{step:g}", anchor="middle"),
            ]
    for number, cost in enumerate(comparison.costs):
        lines += _bar(cost, TOP + ROW * number, reach)
    return "\n".join([*lines, "</svg>"]) + "\n"


def bar(cost: Cost, costs: tuple[Cost, ...]) -> str:
    """One row for a terminal: to the right of the middle what is slower, to the left what is faster."""
    filled = min(COLUMNS // 2, round(abs(math.log(cost.factor)) / _reach(costs) * COLUMNS / 2))
    left, right = ("█" * filled, "") if cost.factor < 1 else ("", "█" * filled)
    return f"{left.rjust(COLUMNS // 2)}│{right.ljust(COLUMNS // 2)}"


def _bar(cost: Cost, y: int, reach: float) -> list[str]:
    one, factor = _place(1.0, reach), _place(cost.factor, reach)
    low, high = (_place(edge, reach) for edge in cost.interval)
    middle = y + ROW // 2 - 3
    colour = quoteattr(COLOURS[cost.verdict])
    return [
        _words(LEFT - 10, middle + 4, cost.id, anchor="end"),
        f'<rect x="{min(one, factor)}" y="{y}" width="{max(abs(factor - one), 0.5):.1f}" height="{ROW - 6}" fill={colour}/>',
        f'<line x1="{low}" y1="{middle}" x2="{high}" y2="{middle}" stroke="#000000" stroke-width="2"/>',
        _words(LEFT + WIDTH + 10, middle + 4, f"{cost.factor:g} ({cost.interval[0]:g} … {cost.interval[1]:g})"),
    ]


def _words(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _reach(costs: tuple[Cost, ...]) -> float:
    """How far the scale goes to both sides, as a logarithm."""
    edges = [abs(math.log(edge)) for cost in costs for edge in (*cost.interval, cost.factor)]
    return max([math.log(NARROWEST), *edges]) * 1.05


def _place(factor: float, reach: float) -> float:
    return round(LEFT + WIDTH / 2 + WIDTH / 2 * math.log(factor) / reach, 1)

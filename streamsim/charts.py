"""Line charts as SVG text for the report. Pure; colours come from the page's own style sheet by class name."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

WIDTH: Final = 360
HEIGHT: Final = 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 34
TICKS: Final = 4
TICK_ROOM: Final = 36
"""Units that a label of five characters takes, with some air."""


class Line(NamedTuple):
    """A named curve; a y of None is a gap."""

    name: str
    style: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis: its title, its ticks as (value, text) where they are not to be found, and a scale for values.

    `ends`: from where to where it goes at least, so that several charts can be read one below the other.
    """

    title: str
    ticks: Sequence[tuple[float, str]] = ()
    scale: Callable[[float], float] = field(default=float)
    ends: tuple[float, float] | None = None


def chart(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Draw lines over common axes; y starts at 0. Width and height follow the page, text is 11 units of 360."""
    xs = [x.scale(at) for at in (*(x.ends or ()), *(at for line in lines for at, _ in line.points))]
    ys = [value for line in lines for _, value in line.points if value is not None]
    low, high = (min(xs), max(xs)) if xs else (0.0, 1.0)
    step = nice_step(max(ys, default=0.0))
    top = step * max(1, math.ceil(max(ys, default=0.0) / step))

    def across(at: float) -> float:
        return LEFT + (x.scale(at) - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    x_ticks = [tick for tick in x.ticks or _ticks(low, high) if low <= x.scale(tick[0]) <= high]
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(f"{y.title} over {x.title}")}">',
        *(_grid_line(down(value), text) for value, text in _multiples(step, top)),
        *(_x_tick(at, text) for at, text in _apart([(across(value), text) for value, text in x_ticks])),
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{html.escape(x.title)}</text>',
        *(f'<path class="{line.style}" d="{_path(line, across, down)}"/>' for line in lines),
        "</svg>",
    ]
    return "".join(parts)


def legend(lines: Sequence[Line]) -> str:
    """Name the lines beside a sample of their colour."""
    return "".join(f'<span class="key {line.style}">{html.escape(line.name)}</span>' for line in lines)


def nice_step(highest: float) -> float:
    """Return 1, 2 or 5 times a power of ten, so that about four steps reach `highest`."""
    if not (math.isfinite(highest) and highest > 0):
        return 1.0
    raw = highest / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= raw * (1 - 1e-9)))


def _multiples(step: float, top: float) -> list[tuple[float, str]]:
    return [(i * step, f"{i * step:,.6g}") for i in range(round(top / step) + 1)]


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    step = nice_step(high - low)
    return [(value, text) for value, text in _multiples(step, step * math.floor(high / step)) if value >= low]


def _grid_line(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _apart(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Leave out what would be written over the tick before it; places in units of the drawing, rising."""
    kept: list[tuple[float, str]] = []
    for at, text in ticks:
        if not kept or at - kept[-1][0] >= TICK_ROOM:
            kept.append((at, text))
    return kept


def _x_tick(x: float, text: str) -> str:
    anchor = "end" if x > WIDTH - RIGHT - 12 else "middle"  # a long text at the edge would be cut off
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _path(line: Line, across: Callable[[float], float], down: Callable[[float], float]) -> str:
    drawn, pen = [], "M"
    for at, value in line.points:
        if value is None:
            pen = "M"
            continue
        drawn.append(f"{pen}{across(at):.1f} {down(value):.1f}")
        # A point between two gaps would be invisible as a line of no length: round caps draw it.
        drawn.append("h0" if pen == "M" else "")
        pen = "L"
    return "".join(drawn)

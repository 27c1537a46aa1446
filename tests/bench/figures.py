"""From measurements to figures: medians with their spread, ratios within a round, Markdown. All of it pure."""

import statistics
from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

T = TypeVar("T")


class Spread(Struct, frozen=True):
    """The median of repetitions, and the smallest and largest of them."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Return median and extremes of at least one value."""
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def ratios(values: Sequence[float], bases: Sequence[float]) -> list[float]:
    """Divide each value by the base of the same round: what slows a whole round cancels out."""
    return [value / base for value, base in zip(values, bases, strict=True)]


def rotated(items: Sequence[T], turn: int) -> list[T]:
    """Return the items begun at another one each turn, so that none is always first, or always after the same pause."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]


def shown(figures: Spread, form: str) -> str:
    """Return `median (low..high)`, each in the format `form`; the median alone where the others are no different."""
    if figures.low == figures.high:
        return f"{figures.median:{form}}"
    return f"{figures.median:{form}} ({figures.low:{form}}..{figures.high:{form}})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: Sequence[str] = ()) -> str:
    """Return a Markdown table, all columns but the first and the `texts` aligned to the right."""
    left = {header[0], *texts}
    lines = [header, ["---" if name in left else "---:" for name in header], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

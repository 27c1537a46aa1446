"""Figures that were measured, from docs/bench.json: what a call costs, and how long a replica takes to start."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

BENCH: Final = Path("docs/bench.json")
Parsed = TypeVar("Parsed")
_SPREAD: Final = ("median", "low", "high")
_MEDIAN: Final = re.compile(r"median of \d+ \| ([\d.]+)")


class Unreadable(Exception):
    """A file of figures is missing or holds others; the message names it and what to do."""


class Point(Struct, frozen=True):
    """CPU of a call at so many calls a second, microseconds: median, lowest and highest of all repetitions."""

    load: str
    calls: float
    median: float
    low: float
    high: float


class Measured(Struct, frozen=True):
    """What the simulation stands on. `rung`: the ladder's last, all parts on, its server never idle."""

    taken_at: str
    processor: str
    rung: str
    calls: float
    """a second, of a whole core"""
    cpu_us: float
    start_seconds: float
    rates: list[Point] = []
    """the same service at fixed rates, where it has idle time between two calls"""

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Calls a second of one replica, and seconds of CPU of each; the last is that of a replica that never rests."""
        busy = (self.calls, self.cpu_us / 1e6)
        idle = [(each.calls, max(each.median, self.cpu_us) / 1e6) for each in self.rates if each.calls < self.calls]
        return (*sorted(idle), busy)


def read(bench: Path, rates: Path | None = None, kept: Sequence[Point] = ()) -> Measured:
    """Read the figures of the last `just bench`.

    Args:
        bench: docs/bench.json.
        rates: data/bench/rates.json of a later `just bench rates`, which counts instead.
        kept: points of before, where neither has any.

    Raises:
        Unreadable: naming the file, and what to do.
    """
    measured = _parsed(bench, "a whole `just bench`", _measured)
    part = measured.rates or list(kept)
    if rates is not None:
        part = _parsed(rates, "`just bench rates`", _points)
    return msgspec.structs.replace(measured, rates=part)


def _parsed(file: Path, run: str, parse: Callable[[Any], Parsed]) -> Parsed:
    try:
        return parse(msgspec.json.decode(file.read_bytes()))
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}; {run} writes it") from None
    except (msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
        raise Unreadable(f"{file}: not the figures of {run}: {error!r}") from None


def _measured(document: Any) -> Measured:
    machine, parts = document["machine"], document["parts"]
    last = parts["ladder"]["rungs"][-1]
    start = _MEDIAN.search(parts["startup"]["markdown"])
    if start is None:
        raise ValueError("no median in the part startup")
    return Measured(
        taken_at=machine["taken_at"],
        processor=machine["processor"],
        rung=last["name"],
        calls=round(last["requests_per_second"]["median"]),
        cpu_us=round(last["cpu_us"]["median"], 1),
        start_seconds=float(start[1]),
        rates=_points(parts["rates"]) if "rates" in parts else [],
    )


def _points(part: Any) -> list[Point]:
    return [
        Point(each["load"], round(each["calls"]["median"], 1), *(round(each["cpu_us"][of], 1) for of in _SPREAD))
        for each in part["rates"]
    ]

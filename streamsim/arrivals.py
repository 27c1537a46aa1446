"""When each record is planned to be sent. Pure: a schedule in, offsets in seconds out; no clock, no network.

The stream is *open loop*: these times are fixed before the first answer arrives, so a slow service meets the same
arrivals as a fast one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Bursts of `rps` records a second: `on` seconds of them, then `off` seconds of silence, over and over.

    All fields are in schedule time; `speed` divides it into real time. `off` 0 is a steady stream. It ends after
    `cycles` bursts or `duration` seconds, whichever comes first, and never when both are None.

    Raises:
        ValueError: a rate, a length or a count that describes no schedule.
    """

    rps: float
    on: float
    off: float = 0.0
    cycles: int | None = None
    duration: float | None = None
    speed: float = 1.0

    def __post_init__(self) -> None:
        positive = (self.rps, self.on, self.speed, 1 if self.duration is None else self.duration)
        if not all(math.isfinite(value) and value > 0 for value in positive):
            raise ValueError("rps, on, speed and duration must be finite and above 0")
        if not (math.isfinite(self.off) and self.off >= 0):
            raise ValueError("off must be finite and at least 0")
        if self.cycles is not None and self.cycles < 1:
            raise ValueError("cycles must be at least 1")

    @property
    def period(self) -> float:
        """Schedule seconds from one burst's start to the next."""
        return self.on + self.off

    @property
    def end(self) -> float:
        """Schedule seconds after which nothing more is sent; infinite for an endless stream."""
        by_cycles = math.inf if self.cycles is None else self.cycles * self.period
        return min(by_cycles, math.inf if self.duration is None else self.duration)


def offsets(schedule: Schedule) -> Iterator[float]:
    """Yield the planned send times in real seconds after the start, ascending.

    Each is computed from its index, never by adding up steps, so that an endless stream does not drift.
    """
    for at in _schedule_times(schedule):
        if at >= schedule.end:
            return
        yield at / schedule.speed


def _schedule_times(schedule: Schedule) -> Iterator[float]:
    if schedule.off == 0:
        yield from (i / schedule.rps for i in _indices(schedule.rps, schedule.end))
        return
    cycle = 0
    while schedule.cycles is None or cycle < schedule.cycles:
        start = cycle * schedule.period
        yield from (start + i / schedule.rps for i in _indices(schedule.rps, schedule.on))
        cycle += 1


def _indices(rps: float, seconds: float) -> Iterator[int]:
    # 0.1 s at 30 rps is 3 records although the product is 3.0000000000000004: round before rounding up.
    limit = math.inf if math.isinf(seconds) else math.ceil(round(rps * seconds, 9))
    i = 0
    while i < limit:
        yield i
        i += 1


def rate_at(schedule: Schedule, elapsed: float) -> float:
    """Planned records per real second, `elapsed` real seconds after the start: 0 between bursts and after the end."""
    at = elapsed * schedule.speed
    active = 0 <= at < schedule.end and at % schedule.period < schedule.on
    return schedule.rps * schedule.speed if active else 0.0


def next_burst(schedule: Schedule, elapsed: float) -> float | None:
    """Real seconds until the next burst begins: 0 during one, None when no other will come."""
    if rate_at(schedule, elapsed) > 0:
        return 0.0
    at = elapsed * schedule.speed
    start = (math.floor(at / schedule.period) + 1) * schedule.period
    return None if start >= schedule.end else (start - at) / schedule.speed

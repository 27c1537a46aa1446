"""When each record is planned to be sent. Pure: a schedule in, offsets in seconds out; no clock, no network.

The stream is *open loop*: these times are fixed before the first answer arrives, so a slow service meets the same
arrivals as a fast one.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Bursts of `rps` records a second: `on` seconds of them, then `off` seconds of silence, over and over.

    All fields are in schedule time; `speed` divides it into real time. `off` 0 is a steady stream. It ends after
    `cycles` bursts or `duration` seconds, whichever comes first, and never when both are None.

    `ramp` makes the rate rise in a straight line from 0 over the first so many seconds of bursts; silences do not
    count. With a `poisson` seed the arrivals are those of a Poisson process of this rate instead of evenly spaced.

    Raises:
        ValueError: a rate, a length or a count that describes no schedule.
    """

    rps: float
    on: float
    off: float = 0.0
    cycles: int | None = None
    duration: float | None = None
    speed: float = 1.0
    ramp: float = 0.0
    poisson: int | None = None

    def __post_init__(self) -> None:
        positive = (self.rps, self.on, self.speed, 1 if self.duration is None else self.duration)
        if not all(math.isfinite(value) and value > 0 for value in positive):
            raise ValueError("rps, on, speed and duration must be finite and above 0")
        if not all(math.isfinite(value) and value >= 0 for value in (self.off, self.ramp)):
            raise ValueError("off and ramp must be finite and at least 0")
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
    if schedule.ramp or schedule.poisson is not None:
        yield from (_time_of(schedule, count) for count in _expected_counts(schedule.poisson))
        return
    if schedule.off == 0:
        yield from (i / schedule.rps for i in _indices(schedule.rps, schedule.end))
        return
    cycle = 0
    while schedule.cycles is None or cycle < schedule.cycles:
        start = cycle * schedule.period
        yield from (start + i / schedule.rps for i in _indices(schedule.rps, schedule.on))
        cycle += 1


def _expected_counts(seed: int | None) -> Iterator[float]:
    """Yield how many records are expected before each one: 0, 1, 2, ... or, for Poisson, with exponential steps."""
    if seed is None:
        yield from map(float, itertools.count())
    draw, count = random.Random(seed).expovariate, 0.0  # noqa: S311  arrivals to replay, nothing to guess
    while True:
        count += draw(1.0)
        yield count


def _time_of(schedule: Schedule, count: float) -> float:
    """Return the schedule time by which `count` records are expected: the integral of the rate, inverted."""
    in_ramp = schedule.rps * schedule.ramp / 2
    if count < in_ramp:
        active = math.sqrt(2 * schedule.ramp * count / schedule.rps)
    else:
        active = schedule.ramp / 2 + count / schedule.rps
    return active + math.floor(active / schedule.on) * schedule.off


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
    cycle, phase = divmod(at, schedule.period)
    if not 0 <= at < schedule.end or phase >= schedule.on:
        return 0.0
    active = cycle * schedule.on + phase
    risen = min(1.0, active / schedule.ramp) if schedule.ramp else 1.0
    return schedule.rps * schedule.speed * risen


def next_burst(schedule: Schedule, elapsed: float) -> float | None:
    """Real seconds until the next burst begins: 0 during one, None when no other will come."""
    at = elapsed * schedule.speed
    if 0 <= at < schedule.end and at % schedule.period < schedule.on:
        return 0.0
    start = (math.floor(at / schedule.period) + 1) * schedule.period
    return None if start >= schedule.end else (start - at) / schedule.speed

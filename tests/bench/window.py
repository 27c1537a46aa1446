"""What the quality window costs: filled at 10, 100, 1,000 a second, what reading it takes, and a scrape with it."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from msgspec import Struct
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from calsvc.feedback.quality import CHAMPION, Series
from calsvc.http.errors import CalsvcError
from calsvc.lifecycle import Lifecycle
from calsvc.service import Service, create_service
from calsvc.settings import Settings
from observability.telemetry import Telemetry
from tests.bench import part
from tests.bench.figures import Spread, rotated, shown, spread, table
from tests.bench.pending import FORMATS
from tests.bench.processes import on_core, two_cores
from tests.clock import Clock

RATES: Final = (10, 100, 1000)
SERIES: Final = Series("20261123T200000Z-00000000", CHAMPION)
REPETITIONS: Final = 10
"""Calls of which one time is taken."""
LEAD: Final = 10
"""Seconds before the first prediction, so that the clock has left its beginning."""


class Filled(Struct):
    """One rate: microseconds of a call, KiB of a scrape."""

    rate: int
    labels: int
    us: dict[str, Spread]
    kib: dict[str, float]


class WindowFigures(Struct):
    """The result."""

    rounds: int
    window: int
    rates: list[Filled]


class _Subject(NamedTuple):
    calls: dict[str, Callable[[], object]]
    service: Service
    labels: int
    filling: dict[str, float]


def measure(options: part.Options) -> WindowFigures:
    """Fill a service's scoreboard for each rate, then time in turns what reads it."""
    with on_core(two_cores().server):
        subjects = {rate: _filled(rate) for rate in RATES}
        part.settle()
        times = {rate: {name: [] for name in subject.calls} for rate, subject in subjects.items()}
        for turn in range(options.rounds):
            for rate in rotated(RATES, turn):
                for name, call in subjects[rate].calls.items():
                    times[rate][name].append(_microseconds(call))
    filled = [
        Filled(
            rate,
            subject.labels,
            {name: spread([us]) for name, us in subject.filling.items()}
            | {name: spread(own) for name, own in times[rate].items()},
            {name: len(_scraped(subject.service, accept)) / 1024 for name, accept in FORMATS.items()},
        )
        for rate, subject in subjects.items()
    ]
    for subject in subjects.values():
        subject.service.telemetry.shutdown()
    return WindowFigures(options.rounds, Settings().quality_window, filled)


def _filled(rate: int) -> _Subject:
    """Predict at `rate` until the first labels have been coming for a whole window."""
    clock = Clock(0.0)
    settings = Settings(store="memory://")
    service = create_service(settings, Telemetry({"service.name": "bench"}), Lifecycle(), clock)
    board, delay = service.scoreboard, settings.feedback_delay
    board.open(SERIES)
    moments = [LEAD + n / rate for n in range(int(rate * (delay + settings.quality_window)))]
    predicting = _timed(lambda: [board.predicted(SERIES, 100.0, moment) for moment in moments]) / len(moments)
    due = moments[: int(rate * settings.quality_window)]
    judging = _timed(lambda: [board.judged(SERIES, 100.0, at, 110.0, at + delay) for at in due]) / len(due)
    clock.now = moments[-1]
    scrapes = {f"scrape, {name}": partial(_scraped, service, accept) for name, accept in FORMATS.items()}
    calls: dict[str, Callable[[], object]] = {
        "snapshot": lambda: list(board.snapshots(clock.now)),
        "coverage": lambda: board.coverage(clock.now),
        **scrapes,
    }
    return _Subject(calls, service, len(due), {"a prediction": predicting, "a label": judging})


def _scraped(service: Service, accept: str) -> bytes:
    """Return what a scrape is answered with."""
    encode = openmetrics.generate_latest if "openmetrics" in accept else generate_latest
    content: bytes = encode(service.telemetry.registry)
    return content


def _timed(work: Callable[[], object]) -> float:
    """Return the microseconds of one call."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e6


def _microseconds(call: Callable[[], object]) -> float:
    return _timed(lambda: [call() for _ in range(REPETITIONS)]) / REPETITIONS


def markdown(result: WindowFigures) -> str:
    """Return the table and what to know about it."""
    header = ["", *(f"{each.rate:,}/s" for each in result.rates)]
    lines = [
        ["labels in the window", *(f"{each.labels:,}" for each in result.rates)],
        *([f"{name}, us", *(shown(each.us[name], ",.1f") for each in result.rates)] for name in result.rates[0].us),
        *([f"scrape, {name}, KiB", *(f"{each.kib[name]:.1f}" for each in result.rates)] for name in FORMATS),
    ]
    note = (
        f"Medians of {result.rounds} interleaved repetitions (lowest..highest); a window of {result.window} s that is "
        "full, in memory and without HTTP. A prediction and a label: what counting one takes while it fills."
    )
    return f"{table(header, lines)}\n\n{note}"


if __name__ == "__main__":
    sys.exit(part.main("window", measure, markdown, CalsvcError))

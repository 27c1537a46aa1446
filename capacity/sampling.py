"""What is known of the pods, and how late: metrics-server for CPU, Prometheus behind an adapter for anything else.

metrics-server looks at every node once in `--metric-resolution` (15 s in its manifest, 60 s in minikube's addon) and
tells the difference of two looks by the time between them. A container that is 10 s old, and younger than a turn, is
compared with its start; any other new one is known from its second look on (kubernetes-sigs/metrics-server,
pkg/storage/pod.go). So a load that begins now is known in full after one to two turns, and a burst that is shorter
than a turn never: it is averaged with the silence around it.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from capacity.replicas import Sample

FRESH: Final = 10.0
"""Seconds that a container must have lived to be compared with its own start."""


class Used(NamedTuple):
    """What a container has used: when it started, and CPU seconds since."""

    started: float
    seconds: float


class _Look(NamedTuple):
    at: float
    used: Used


@dataclass(slots=True)
class MetricsServer:
    """Looks at all containers now and then; keeps their last two looks."""

    resolution: float = 15.0
    _last: dict[int, _Look] = field(default_factory=dict)
    _before: dict[int, _Look] = field(default_factory=dict)

    def look(self, now: float, containers: Mapping[int, Used]) -> None:
        """Take the counters of all containers that there are."""
        before: dict[int, _Look] = {}
        for number, used in containers.items():
            if FRESH <= now - used.started < self.resolution:
                before[number] = _Look(used.started, Used(used.started, 0.0))
            elif number in self._last:
                before[number] = self._last[number]
        self._last = {number: _Look(now, used) for number, used in containers.items()}
        self._before = before

    def sample(self, number: int) -> Sample | None:
        """Return the cores that a container used on average between its last two looks, if there were two."""
        if number not in self._before:
            return None
        last, before = self._last[number], self._before[number]
        window = last.at - before.at
        return Sample(last.at, window, (last.used.seconds - before.used.seconds) / window)


@dataclass(slots=True)
class Rates:
    """What Prometheus has scraped of a counter, and `rate()` of it over the last `window` seconds.

    A counter misses no burst between two scrapes, as a gauge does. That of refusals tells how many there were a second,
    the sum of the durations of all requests how many were in flight on average (Little).
    """

    interval: float = 15.0
    window: float = 60.0
    _scraped: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)

    def look(self, now: float, counters: Mapping[int, float]) -> None:
        """Scrape every pod that answers."""
        self._scraped = {number: self._scraped.get(number, deque()) for number in counters}
        for number, value in counters.items():
            scraped = self._scraped[number]
            scraped.append((now, value))
            while scraped[0][0] < now - self.window:
                scraped.popleft()

    def sample(self, number: int) -> Sample | None:
        """Return how much a second was added; None before the second scrape."""
        scraped = self._scraped.get(number)
        if scraped is None or len(scraped) < 2:
            return None
        (first, before), (last, after) = scraped[0], scraped[-1]
        return Sample(last, last - first, (after - before) / (last - first))

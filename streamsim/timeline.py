"""A run second by second. Each answer costs four bytes, so this is for runs of minutes, not for streams of days."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Second(NamedTuple):
    """One second of a run: counts of arrivals, latencies in milliseconds from the planned send time."""

    second: int
    planned: int
    sent: int
    errors: int
    in_flight: int
    """The most at any arrival of this second."""
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(slots=True)
class _Bucket:
    planned: int = 0
    sent: int = 0
    errors: int = 0
    in_flight: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("f"))


class Timeline:
    """Counts by second; all times are seconds after the run's start."""

    def __init__(self) -> None:
        self._buckets: list[_Bucket] = []

    def planned(self, at: float, in_flight: int, *, sent: bool) -> None:
        """Count an arrival; one that is not sent is an error of the second it was planned for."""
        bucket = self._bucket(at)
        bucket.planned += 1
        bucket.errors += not sent
        bucket.in_flight = max(bucket.in_flight, in_flight)

    def sent(self, at: float) -> None:
        """Count a request that leaves."""
        self._bucket(at).sent += 1

    def answered(self, planned: float, latency: float | None, *, ok: bool) -> None:
        """Count an answer, or the end of waiting for one, for the second in which it was planned."""
        bucket = self._bucket(planned)
        bucket.errors += not ok
        if latency is not None:
            bucket.latencies.append(latency * 1000)

    def seconds(self) -> list[Second]:
        """Freeze it, from second 0 to the last one in which something was planned or sent."""
        return [_frozen(number, bucket) for number, bucket in enumerate(self._buckets)]

    def _bucket(self, at: float) -> _Bucket:
        number = max(0, math.floor(at))
        while len(self._buckets) <= number:
            self._buckets.append(_Bucket())
        return self._buckets[number]


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """Return the smallest value that `share` (0..1) of the values do not exceed (nearest rank)."""
    if not ascending:
        return None
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def _frozen(number: int, bucket: _Bucket) -> Second:
    ascending = sorted(bucket.latencies)
    found = quantile(ascending, 0.5), quantile(ascending, 0.95), quantile(ascending, 0.99)
    return Second(number, bucket.planned, bucket.sent, bucket.errors, bucket.in_flight, *found)

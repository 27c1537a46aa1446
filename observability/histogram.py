"""A histogram for the request path: a fifth of the cost of `prometheus_client`'s own, into whose families it is mapped.

That one takes two locks and walks over the bounds one by one. This one belongs to a single thread, the event loop's,
on which it is read as well.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from math import inf, isnan
from types import MappingProxyType
from typing import Protocol

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString


class Identified(Protocol):
    """What an exemplar points at: a span. Its labels are asked for at a scrape."""

    @property
    def ids(self) -> dict[str, str]:
        """Labels by which it is found."""


class Distribution:
    """How often a value fell between which bounds, under one set of labels.

    Args:
        bounds: upper bounds in rising order, each inclusive; what lies above the last is counted too.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._seen: list[tuple[Identified, float, float] | None] = [None] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, seen_in: Identified | None = None) -> None:
        """Count one value; not a number is none. `seen_in`: the event; the newest of a bucket is its exemplar."""
        if isnan(value):
            return
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._sum += value
        if seen_in is not None:
            self._seen[bucket] = (seen_in, value, time.time())

    @property
    def counts(self) -> tuple[int, ...]:
        """How many values fell into each bucket; the last one lies above all bounds."""
        return tuple(self._counts)

    @property
    def total(self) -> float:
        """All values added up."""
        return self._sum

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add the samples to a family, cumulated as Prometheus wants them."""
        cumulated = 0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for bound, count, seen in zip((*self._bounds, inf), self._counts, self._seen, strict=True):
            cumulated += count
            le: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
            if seen is None:
                buckets.append((le, cumulated))
            else:
                identified, value, timestamp = seen
                buckets.append((le, cumulated, Exemplar(identified.ids, value, timestamp)))
        family.add_metric(labels, buckets, self._sum)


class Histogram(Collector):
    """A family of distributions, one for each set of label values."""

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float]) -> None:  # noqa: A002
        self._name = name
        self._help = help
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._known: dict[tuple[str, ...], Distribution] = {}

    def labels(self, *values: str) -> Distribution:
        """Return the distribution of one set of label values, given in the order of the declared names."""
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has the labels {self._labels}, got {values}")
        return self._known.setdefault(values, Distribution(self._bounds))

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper bounds of the buckets, without the last, which has none."""
        return self._bounds

    @property
    def known(self) -> Mapping[tuple[str, ...], Distribution]:
        """By label values, what was asked for so far: to look without making an empty series."""
        return MappingProxyType(self._known)

    def remove(self, *values: str) -> None:
        """Show one set of label values no more."""
        self._known.pop(values, None)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family for a scrape."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, distribution in self._known.items():
            distribution.add_to(family, values)
        yield family

"""One look at the service: what was counted since the start, and what stands now. Nothing is divided here."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Histogram

from calsvc.feedback.quality import CHAMPION, Coverage, Quality, SeriesSnapshot
from calsvc.feedback.records import StoreStatistics
from calsvc.registry.serving import ServingModel
from calsvc.service import Service
from observability.instruments import bucket_counts
from observability.signals import LATENCY_BUCKETS

Counts = Sequence[int]
"""How many values fell into each bucket of a histogram; the last one lies above all bounds."""


Durations = Mapping[tuple[str, ...], tuple[int, ...]]
"""Requests' durations by label values: route, method, status, scheme and error."""


class Requests(NamedTuple):
    """Answers since the start, as the request metrics have them: refusals are in it, probes and this page are not."""

    total: int
    predict: int
    feedback: int
    errors: int


class Lags(NamedTuple):
    """Truths that found their prediction, and the seconds that they came after it, added up."""

    truths: int
    seconds: float


class Reading(NamedTuple):
    """What was found at `at`, seconds of the service's clock."""

    at: float
    phase: str
    requests: Requests
    latency: Counts
    lags: Lags
    predictions: int
    replaced: int
    quality: Quality | None
    challenger_quality: Quality | None
    coverage: Coverage
    store: StoreStatistics
    outcomes: Mapping[str, int]
    champion: ServingModel | None
    challenger: ServingModel | None
    previous_version: str | None


def read(service: Service) -> Reading:
    """Read all that the page shows."""
    service.count()
    now, meters = service.clock(), service.meters
    durations = bucket_counts(meters.request_duration)
    series = list(service.scoreboard.snapshots(now))
    return Reading(
        at=now,
        phase=service.lifecycle.phase.value,
        requests=_requests(durations),
        latency=_answered(durations),
        lags=_lags(meters.lag),
        predictions=sum(each.predictions for each in series if each.series.role == CHAMPION),
        replaced=service.scoreboard.replacements,
        quality=_quality(series, service.champion),
        challenger_quality=_quality(series, service.challenger),
        coverage=service.scoreboard.coverage(now),
        store=service.store.statistics(),
        outcomes=dict(meters.outcomes),
        champion=service.champion,
        challenger=service.challenger,
        previous_version=service.previous_version,
    )


def bounds_ms() -> list[float]:
    """Return the bounds between the buckets of latency, milliseconds."""
    return [1e3 * bound for bound in LATENCY_BUCKETS]


def _quality(series: Sequence[SeriesSnapshot], model: ServingModel | None) -> Quality | None:
    """Return how the model that serves now did in the window; None without a label."""
    return next((each.window for each in series if model is not None and each.series == model.series), None)


def _requests(durations: Durations) -> Requests:
    total = predict = feedback = errors = 0
    for (route, _, status, *_), counts in durations.items():
        count = sum(counts)
        total += count
        predict += count if route == "/predict" else 0
        feedback += count if route == "/feedback" else 0
        errors += count if status[0] in "45" else 0
    return Requests(total, predict, feedback, errors)


def _lags(histogram: Histogram) -> Lags:
    samples = [sample for family in histogram.collect() for sample in family.samples]
    count, seconds = (sum(each.value for each in samples if each.name.endswith(end)) for end in ("_count", "_sum"))
    return Lags(int(count), seconds)


def _answered(durations: Durations) -> Counts:
    """Return how long answered predictions took."""
    return durations.get(("/predict", "POST", "200", "http", ""), (0,) * (len(LATENCY_BUCKETS) + 1))

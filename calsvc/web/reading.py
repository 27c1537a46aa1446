"""One look at the service: what was counted since the start, and what stands now. Nothing is divided here."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from calsvc.feedback.quality import CHAMPION, Coverage, Quality, SeriesSnapshot
from calsvc.feedback.records import StoreStatistics
from calsvc.service import Service
from calsvc.serving import ServingModel
from observability.histogram import Histogram

Counts = Sequence[int]
"""How many values fell into each bucket of a histogram; the last one lies above all bounds."""


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
    series = list(service.scoreboard.snapshots(now))
    return Reading(
        at=now,
        phase=service.lifecycle.phase.value,
        requests=_requests(meters.request_duration),
        latency=_answered(meters.request_duration),
        lags=Lags(sum(meters.lag.counts), meters.lag.total),
        predictions=sum(each.predictions for each in series if each.series.role == CHAMPION),
        quality=_quality(series, service.champion),
        challenger_quality=_quality(series, service.challenger),
        coverage=service.scoreboard.coverage(now),
        store=service.store.statistics(),
        outcomes=dict(meters.outcomes),
        champion=service.champion,
        challenger=service.challenger,
        previous_version=service.previous_version,
    )


def bounds_ms(service: Service) -> list[float]:
    """Return the bounds between the buckets of latency, milliseconds."""
    return [1e3 * bound for bound in service.meters.request_duration.bounds]


def _quality(series: Sequence[SeriesSnapshot], model: ServingModel | None) -> Quality | None:
    """Return how the model that serves now did in the window; None without a label."""
    return next((each.window for each in series if model is not None and each.series == model.series), None)


def _requests(durations: Histogram) -> Requests:
    total = predict = feedback = errors = 0
    for (route, _, status), distribution in durations.known.items():
        count = sum(distribution.counts)
        total += count
        predict += count if route == "/predict" else 0
        feedback += count if route == "/feedback" else 0
        errors += count if status[0] in "45" else 0
    return Requests(total, predict, feedback, errors)


def _answered(durations: Histogram) -> Counts:
    """Return how long answered predictions took."""
    found = durations.known.get(("/predict", "POST", "200"))
    return found.counts if found is not None else (0,) * (len(durations.bounds) + 1)

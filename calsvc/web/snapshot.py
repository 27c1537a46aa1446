"""From readings to what the page shows: differences, rates and percentiles. Pure: the time is in the readings."""

from collections import deque
from collections.abc import Iterable, Sequence
from operator import sub
from typing import Final, NamedTuple

from msgspec import Struct

from calsvc.web.reading import Counts, Lags, Reading

SHORT: Final = 10.0
"""Seconds behind the request rate, and behind each point of the latency chart."""
LONG: Final = 60.0
"""Seconds behind the percentiles in the header, and behind the lag."""
CHARTED: Final = (
    *("at", "predict_per_s", "feedback_per_s", "errors_per_s", "p50_ms", "p95_ms", "p99_ms"),
    *("coverage_matured", "coverage_window", "rmsle", "training_rmsle", "mae_kcal", "labels", "lag_s", "pending"),
)
"""The fields of a snapshot of which the page keeps ten minutes."""


class Snapshot(Struct, frozen=True, kw_only=True):
    """What the page shows at `at`, seconds since the epoch. None: there is nothing to say, which is not 0.

    Requests are those of the request metrics; percentiles are those of answered predictions. The quality is that of
    the model that serves, over the quality window, as in /metrics.
    """

    at: float
    phase: str
    requests_per_s: float | None
    predict_per_s: float | None
    feedback_per_s: float | None
    errors_per_s: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    minute_p50_ms: float | None
    minute_p95_ms: float | None
    minute_p99_ms: float | None
    predictions: int
    rmsle: float | None
    mae_kcal: float | None
    labels: int | None
    coverage_matured: float | None
    coverage_window: float | None
    lag_s: float | None
    pending: int
    replaced: int
    forgotten: int
    matched: int
    duplicate: int
    conflict: int
    unknown: int
    model_version: str | None
    engine: str | None
    alias: str | None
    serving_since: str | None
    training_rmsle: float | None
    previous_version: str | None
    challenger_version: str | None
    challenger_rmsle: float | None
    challenger_mae_kcal: float | None
    challenger_labels: int | None


class Rates(NamedTuple):
    """Answers per second, as `Requests`; None while there is only one reading."""

    total: float | None
    predict: float | None
    feedback: float | None
    errors: float | None


class Window:
    """The readings of the last minute, and the one before them: what differences are taken from."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque()

    def add(self, reading: Reading) -> None:
        """Take a reading that is newer than all before."""
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.at - self._readings[1].at >= LONG:
            self._readings.popleft()

    def since(self, seconds: float) -> Reading | None:
        """Return the newest reading at least `seconds` old, or the oldest there is; None where there is only one."""
        newest = self._readings[-1]
        *older, _ = self._readings
        return next((each for each in reversed(older) if newest.at - each.at >= seconds), older[0] if older else None)


def summarize(window: Window, now: Reading, at: float, bounds_ms: Sequence[float]) -> Snapshot:
    """Say what the newest reading of the window amounts to; `at` is its time, seconds since the epoch."""
    short, long = window.since(SHORT), window.since(LONG)
    lately, latest = _rates(short, now), _rates(window.since(0.0), now)
    p50, p95, p99 = _latency(short, now, bounds_ms)
    minute_p50, minute_p95, minute_p99 = _latency(long, now, bounds_ms)
    model = now.champion
    quality, theirs = now.quality, now.challenger_quality
    return Snapshot(
        at=round(at, 3),
        phase=now.phase,
        requests_per_s=lately.total,
        predict_per_s=latest.predict,
        feedback_per_s=latest.feedback,
        errors_per_s=latest.errors,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        minute_p50_ms=minute_p50,
        minute_p95_ms=minute_p95,
        minute_p99_ms=minute_p99,
        predictions=now.predictions,
        rmsle=quality and round(quality.rmsle, 6),
        mae_kcal=quality and round(quality.mae_kcal, 4),
        labels=quality and quality.matched,
        coverage_matured=_rounded(now.coverage.matured, 5),
        coverage_window=_rounded(now.coverage.window, 5),
        lag_s=_mean_lag(long, now),
        pending=now.store.pending,
        replaced=now.replaced,
        forgotten=now.store.expired + now.store.overflowed,
        matched=now.outcomes["matched"],
        duplicate=now.outcomes["duplicate"],
        conflict=now.outcomes["conflict"],
        unknown=now.outcomes["unknown"],
        model_version=model.series.model_version if model else None,
        engine=model.engine if model else None,
        alias=model.origin.alias if model else None,
        serving_since=model.since if model else None,
        training_rmsle=_rounded(model.bundle.manifest.training_metrics.get("valid_rmsle") if model else None, 6),
        previous_version=now.previous_version,
        challenger_version=now.challenger.series.model_version if now.challenger else None,
        challenger_rmsle=theirs and round(theirs.rmsle, 6),
        challenger_mae_kcal=theirs and round(theirs.mae_kcal, 4),
        challenger_labels=theirs and theirs.matched,
    )


def quantile(bounds: Sequence[float], counts: Counts, q: float) -> float | None:
    """Return the value below which a share `q` lies; None without values.

    As Prometheus' `histogram_quantile`: evenly spread within a bucket, and the last bound for what lies above it.
    Different in the first bucket, of which only the upper bound is known: that bound, and not a share of it.
    """
    rank, below = q * sum(counts), 0
    if not rank:
        return None
    for number, count in enumerate(counts[:-1]):
        if below + count >= rank:
            if number == 0:
                return bounds[0]
            return bounds[number - 1] + (bounds[number] - bounds[number - 1]) * (rank - below) / count
        below += count
    return bounds[-1]


def _latency(then: Reading | None, now: Reading, bounds_ms: Sequence[float]) -> Iterable[float | None]:
    counts = _between(then and then.latency, now.latency)
    return (_rounded(quantile(bounds_ms, counts, q), 3) for q in (0.5, 0.95, 0.99))


def _mean_lag(then: Reading | None, now: Reading) -> float | None:
    """Return the mean and no percentile: the buckets around a lag of some minutes are minutes wide."""
    before = then.lags if then is not None else Lags(0, 0.0)
    truths = now.lags.truths - before.truths
    return round((now.lags.seconds - before.seconds) / truths, 2) if truths else None


def _between(then: Counts | None, now: Counts) -> Counts:
    """Return what was counted since `then`: all, where nothing is known of the time before."""
    return now if then is None else tuple(map(sub, now, then))


def _rates(then: Reading | None, now: Reading) -> Rates:
    if then is None or now.at <= then.at:
        return Rates(None, None, None, None)
    seconds = now.at - then.at
    return Rates(*(round((new - old) / seconds, 2) for new, old in zip(now.requests, then.requests, strict=True)))


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)

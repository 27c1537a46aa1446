"""The service's numbers, bound to the declared metrics: most are only read when somebody scrapes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from prometheus_client import Histogram

from calsvc.feedback.quality import CHALLENGER, CHAMPION, MAX_SERIES, PairedSums, Scoreboard, Series, SeriesSnapshot
from calsvc.feedback.store import JoinStore
from observability import signals
from observability.instruments import create_histogram, observe
from observability.telemetry import Telemetry

Callback = Callable[[CallbackOptions], Iterable[Observation]]
OUTCOMES = ("matched", "duplicate", "conflict", "unknown")
SHADOW_OUTCOMES = ("scored", "shed", "failed")


class Meters:
    """Instruments of one service.

    Args:
        telemetry: where the instruments are made.
        scoreboard: read at each scrape for predictions, quality and coverage.
        store: read at each scrape for what is pending.
        clock: seconds, monotonic, the same that the scoreboard is given.
    """

    def __init__(
        self, telemetry: Telemetry, scoreboard: Scoreboard, store: JoinStore, clock: Callable[[], float]
    ) -> None:
        self._scoreboard = scoreboard
        self._store = store
        self._clock = clock
        self.request_duration = create_histogram(telemetry.registry, signals.REQUEST_DURATION)
        self._kcal = create_histogram(telemetry.registry, signals.PREDICTION_KCAL)
        self.lag = create_histogram(telemetry.registry, signals.FEEDBACK_LAG)
        self._kcal_of: dict[str, Histogram] = {}
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self._shadows = dict.fromkeys(SHADOW_OUTCOMES, 0)
        self._model_checks: Counter[tuple[str, str]] = Counter()
        self.model: dict[str, str] | None = None
        self.training_rmsle: dict[Series, float] = {}
        """What training measured of the models that are in use, where it did."""
        self.event_loop_lag = 0.0
        self.active: list[Mapping[tuple[str, str], int]] = []
        """By port: requests that are being answered, by method and scheme."""
        self._register(telemetry.meter)
        observe(telemetry.meter, signals.SPANS_DROPPED, _counted("reason", telemetry.tracing.dropped))

    def predicted(self, series: Series, kcal: float) -> None:
        """Record one answered prediction."""
        child = self._kcal_of.get(series.model_version)
        if child is None:
            child = self._kcal_of[series.model_version] = self._kcal.labels(series.model_version)
            if len(self._kcal_of) > MAX_SERIES:
                oldest = next(iter(self._kcal_of))
                del self._kcal_of[oldest]
                self._kcal.remove(oldest)
        child.observe(kcal)

    def joined(self, outcome: str, lag: float | None = None) -> None:
        """Count one feedback by outcome; `lag` seconds since its prediction where it was matched."""
        self.outcomes[outcome] += 1
        if lag is not None:
            self.lag.observe(lag)

    def shadowed(self, outcome: Literal["scored", "shed", "failed"]) -> None:
        """Count one record that was offered to the challenger."""
        self._shadows[outcome] += 1

    def model_checked(self, role: str, outcome: str) -> None:
        """Count one look at the source of a model."""
        self._model_checks[role, outcome] += 1

    def _register(self, meter: Meter) -> None:
        by_series: tuple[tuple[signals.Metric, Callable[[SeriesSnapshot], float | None]], ...] = (
            (signals.PREDICTIONS, lambda s: s.predictions),
            (signals.QUALITY_MATCHED, lambda s: s.total.matched),
            (signals.QUALITY_SQUARED_LOG_ERROR, lambda s: s.total.squared_log_error),
            (signals.QUALITY_ABSOLUTE_ERROR, lambda s: s.total.absolute_error_kcal),
            (signals.QUALITY_RMSLE, lambda s: s.window and s.window.rmsle),
            (signals.QUALITY_MAE, lambda s: s.window and s.window.mae_kcal),
            (signals.QUALITY_SAMPLES, lambda s: s.window and s.window.matched),
        )
        for metric, value in by_series:
            observe(meter, metric, self._of_each_series(value))
        for metric, sums in (
            (signals.QUALITY_PAIRED, lambda pair: {"": pair.records}),
            (signals.QUALITY_PAIRED_SQUARED_LOG_ERROR, _by_role),
            (signals.QUALITY_PAIRED_SQUARED_DIFFERENCE, lambda pair: {"": pair.squared_difference}),
        ):
            observe(meter, metric, self._of_each_pair(sums))
        observe(meter, signals.ROLLING_MEAN, self._rolling_means)
        observe(meter, signals.REPLACED, lambda _: [Observation(self._scoreboard.replacements)])
        observe(meter, signals.COVERAGE, self._coverage)
        observe(meter, signals.FEEDBACK, _counted("outcome", lambda: self.outcomes))
        observe(meter, signals.SHADOW, _counted("outcome", lambda: self._shadows))
        observe(meter, signals.MODEL_CHECKS, self._checks)
        observe(meter, signals.PENDING, lambda _: [Observation(self._store.statistics().pending)])
        observe(meter, signals.PENDING_DROPPED, _counted("reason", self._dropped))
        observe(meter, signals.STORE_IS_DEGRADED, lambda _: [Observation(int(self._store.degraded))])
        observe(meter, signals.MODEL_INFO, lambda _: [Observation(1, self.model)] if self.model else [])
        observe(meter, signals.TRAINING_RMSLE, self._training)
        observe(meter, signals.ACTIVE_REQUESTS, self._active)
        observe(meter, signals.EVENT_LOOP_LAG, lambda _: [Observation(self.event_loop_lag)])

    def _of_each_series(self, value: Callable[[SeriesSnapshot], float | None]) -> Callback:
        """Observe `value` of every series that has one: no data is no observation, never 0."""

        def callback(_: CallbackOptions) -> Iterator[Observation]:
            for snapshot in self._scoreboard.snapshots(self._clock()):
                number = value(snapshot)
                if number is not None:
                    yield Observation(number, snapshot.series._asdict())

        return callback

    def _rolling_means(self, _: CallbackOptions) -> Iterator[Observation]:
        for snapshot in self._scoreboard.snapshots(self._clock()):
            if snapshot.rolling_mean_kcal is not None and snapshot.series.role == CHAMPION:
                yield Observation(snapshot.rolling_mean_kcal, {"model_version": snapshot.series.model_version})

    def _coverage(self, _: CallbackOptions) -> Iterator[Observation]:
        for basis, ratio in self._scoreboard.coverage(self._clock())._asdict().items():
            if ratio is not None:
                yield Observation(ratio, {"basis": basis})

    def _of_each_pair(self, sums: Callable[[PairedSums], dict[str, float]]) -> Callback:
        """Observe sums of every pair of versions, by role where a sum belongs to one ("" where to both)."""

        def callback(_: CallbackOptions) -> Iterator[Observation]:
            for pair, evidence in self._scoreboard.pairs().items():
                for role, number in sums(evidence).items():
                    yield Observation(number, pair._asdict() | ({"role": role} if role else {}))

        return callback

    def _checks(self, _: CallbackOptions) -> Iterator[Observation]:
        for (role, outcome), count in self._model_checks.items():
            yield Observation(count, {"role": role, "outcome": outcome})

    def _training(self, _: CallbackOptions) -> Iterator[Observation]:
        for series, rmsle in self.training_rmsle.items():
            yield Observation(rmsle, series._asdict())

    def _active(self, _: CallbackOptions) -> Iterator[Observation]:
        for method, scheme in {kind for port in self.active for kind in port}:
            count = sum(port.get((method, scheme), 0) for port in self.active)
            yield Observation(count, {"http.request.method": method, "url.scheme": scheme})

    def _dropped(self) -> Mapping[str, int]:
        statistics = self._store.statistics()
        return {"expired": statistics.expired, "overflow": statistics.overflowed}


def _by_role(pair: PairedSums) -> dict[str, float]:
    return {CHAMPION: pair.champion, CHALLENGER: pair.challenger}


def _counted(label: str, counts: Callable[[], Mapping[str, int]]) -> Callback:
    """Observe each of some counts, told apart by one label."""

    def callback(_: CallbackOptions) -> Iterator[Observation]:
        for value, count in counts().items():
            yield Observation(count, {label: value})

    return callback

"""The service's numbers, bound to the declared metrics: most are only read when somebody scrapes."""

from collections.abc import Callable, Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from calsvc.feedback.quality import Scoreboard, Series, SeriesSnapshot
from calsvc.feedback.store import JoinStore
from observability import signals

OUTCOMES = ("matched", "duplicate", "conflict", "unknown")


class Meters:
    """Instruments of one service.

    Args:
        meter: where the instruments are made.
        scoreboard: read at each scrape for predictions, quality and coverage.
        store: read at each scrape for what is pending.
        clock: seconds, monotonic, the same that the scoreboard is given.
    """

    def __init__(self, meter: Meter, scoreboard: Scoreboard, store: JoinStore, clock: Callable[[], float]) -> None:
        self._scoreboard = scoreboard
        self._store = store
        self._clock = clock
        self.request_duration = signals.create_histogram(meter, signals.REQUEST_DURATION)
        self._kcal = signals.create_histogram(meter, signals.PREDICTION_KCAL)
        self._lag = signals.create_histogram(meter, signals.FEEDBACK_LAG)
        self._kcal_attributes: dict[str, dict[str, str]] = {}
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self.model: dict[str, str] | None = None
        self.event_loop_lag = 0.0
        self._register(meter)

    def predicted(self, series: Series, kcal: float) -> None:
        """Record one answered prediction."""
        attributes = self._kcal_attributes.setdefault(series.model_version, {"model_version": series.model_version})
        self._kcal.record(kcal, attributes)

    def joined(self, outcome: str, lag: float | None = None) -> None:
        """Count one feedback by outcome; `lag` seconds since its prediction where it was matched."""
        self._outcomes[outcome] += 1
        if lag is not None:
            self._lag.record(lag)

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
            signals.observe(meter, metric, self._of_each_series(value))
        signals.observe(meter, signals.ROLLING_MEAN, self._rolling_means)
        signals.observe(meter, signals.COVERAGE, self._coverage)
        signals.observe(meter, signals.FEEDBACK, self._feedback)
        signals.observe(meter, signals.PENDING, lambda _: [Observation(self._store.statistics().pending)])
        signals.observe(meter, signals.PENDING_DROPPED, self._dropped)
        signals.observe(meter, signals.MODEL_INFO, lambda _: [Observation(1, self.model)] if self.model else [])
        signals.observe(meter, signals.EVENT_LOOP_LAG, lambda _: [Observation(self.event_loop_lag)])

    def _of_each_series(
        self, value: Callable[[SeriesSnapshot], float | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Observe `value` of every series that has one: no data is no observation, never 0."""

        def callback(_: CallbackOptions) -> Iterator[Observation]:
            for snapshot in self._scoreboard.snapshots(self._clock()):
                number = value(snapshot)
                if number is not None:
                    yield Observation(number, snapshot.series._asdict())

        return callback

    def _rolling_means(self, _: CallbackOptions) -> Iterator[Observation]:
        for snapshot in self._scoreboard.snapshots(self._clock()):
            if snapshot.rolling_mean_kcal is not None and snapshot.series.role == "champion":
                yield Observation(snapshot.rolling_mean_kcal, {"model_version": snapshot.series.model_version})

    def _coverage(self, _: CallbackOptions) -> Iterator[Observation]:
        for basis, ratio in self._scoreboard.coverage(self._clock())._asdict().items():
            if ratio is not None:
                yield Observation(ratio, {"basis": basis})

    def _feedback(self, _: CallbackOptions) -> Iterator[Observation]:
        for outcome, count in self._outcomes.items():
            yield Observation(count, {"outcome": outcome})

    def _dropped(self, _: CallbackOptions) -> Iterator[Observation]:
        statistics = self._store.statistics()
        yield Observation(statistics.expired, {"reason": "expired"})
        yield Observation(statistics.overflowed, {"reason": "overflow"})

"""One service: a model that answers, a store that remembers, a scoreboard that judges. No HTTP in it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from opentelemetry.trace import StatusCode, Tracer

from calsvc.feedback.opening import create_store
from calsvc.feedback.quality import CHALLENGER, Pair, Scoreboard, Series
from calsvc.feedback.records import Joined, Remembered, Shadow, SpanRef
from calsvc.feedback.store import JoinStore, Late, LateReplacement
from calsvc.http.errors import NotReady, ScoringError, TruthConflict, UnknownId
from calsvc.http.middleware import InFlight
from calsvc.http.schema import Feedback, RecordId, Workout
from calsvc.lifecycle import Lifecycle
from calsvc.metering import Meters
from calsvc.registry.serving import ServingModel
from calsvc.settings import Settings
from observability.events import tell
from observability.profiles import Profiles
from observability.signals import CHALLENGER_SILENT, JOIN, MODEL_INSTALLED, SCORE
from observability.telemetry import Telemetry
from observability.tracing import recording_span

SHADOWS_AT_ONCE: Final = 8
"""Records that the challenger may be scoring at the same time; more are left out."""
SHADOW_LOOP_LAG: Final = 0.05
"""Seconds by which the event loop may be late before the challenger is left out."""
TRAINING_FIGURE: Final = "valid_rmsle"
"""What a handout's train.py calls the RMSLE on rows it held back."""
UNCOUNTED: Final = 64
"""Answers that are counted at once: few enough for a pause of a tenth of a millisecond."""

Status = Literal["matched", "duplicate"]


class Answer(NamedTuple):
    """A prediction that has been remembered and is about to be sent."""

    id: RecordId
    kcal: float
    made_at: float
    series: Series
    replaced_at: float | None
    """When the prediction was made that this one replaced, where it did."""


@dataclass(slots=True, kw_only=True)
class Service:
    """Everything an endpoint may touch. `clock`: monotonic seconds."""

    settings: Settings
    telemetry: Telemetry
    lifecycle: Lifecycle
    clock: Callable[[], float]
    store: JoinStore
    scoreboard: Scoreboard
    in_flight: InFlight
    meters: Meters
    profiles: Profiles = field(default_factory=Profiles)
    champion: ServingModel | None = None
    challenger: ServingModel | None = None
    previous_version: str | None = None
    _silent: ServingModel | None = None
    """The challenger of which the log knows that it has failed."""
    _uncounted: list[Answer] = field(default_factory=list)

    async def restore(self) -> None:
        """Open the store, and expect the labels of what waits in it from before.

        Raises:
            StoreError: it cannot be used.
        """
        for prediction in await self.store.open(self.clock()):
            self.scoreboard.restored(prediction.made_at)

    async def install(self, model: ServingModel) -> None:
        """Answer with this champion, or shadow with this challenger, from now on; close what it replaces."""
        self.scoreboard.open(model.series)
        if model.series.role == CHALLENGER:
            replaced, self.challenger = self.challenger, model
        else:
            replaced, self.champion = self.champion, model
            self.meters.model = _info_labels(model)
            self.profiles.model(model.series.model_version)
            self.previous_version = replaced.series.model_version if replaced else self.previous_version
            self.lifecycle.ready()
        self._compare(model, replaced)
        tell(MODEL_INSTALLED, {"role": model.series.role, **model.told, **_registered(model)})
        if replaced is not None:
            await replaced.retire()

    async def remove_challenger(self) -> None:
        """Shadow no more."""
        challenger, self.challenger = self.challenger, None
        self._compare(None, challenger)
        if challenger is not None:
            await challenger.retire()

    async def close(self) -> None:
        """Close the store, with all that it still has to keep, and both models."""
        await self.store.aclose()
        champion, self.champion = self.champion, None
        await self.remove_challenger()
        if champion is not None:
            await champion.retire()

    def serving_model(self) -> ServingModel:
        """Return the model that answers; `NotReady` where there is none, or where the process has stopped answering."""
        if self.champion is None or not self.lifecycle.serving:
            raise NotReady(f"the service is {self.lifecycle.phase.value}")
        return self.champion

    async def predict(self, model: ServingModel, workout: Workout) -> Answer:
        """Score a workout and remember the prediction. It counts only when it was sent: see `answered`."""
        span = recording_span()
        kcal = await (model.score(workout) if span is None else _scored(self.telemetry.tracer, model, workout))
        made_at = self.clock()
        made_in = None
        if span is not None:
            context = span.get_span_context()
            made_in = SpanRef(context.trace_id, context.span_id)
        replaced_at = await self.store.remember(workout.id, Remembered(kcal, made_at, model.series, made_in))
        return Answer(workout.id, kcal, made_at, model.series, replaced_at)

    def answered(self, workout: Workout, answer: Answer) -> Awaitable[None] | None:
        """Count a prediction whose answer has gone out; return the challenger's work on it, where there is one."""
        self._uncounted.append(answer)
        if len(self._uncounted) >= UNCOUNTED:
            self.count()
        return self._shadow(self.challenger, workout, answer) if self.challenger is not None else None

    def count(self) -> None:
        """Bring the numbers up to date; whoever reads them has to ask for it.

        Many predictions one after the other: the code stays in the processor's cache, and each costs half.
        """
        uncounted, self._uncounted = self._uncounted, []
        for answer in uncounted:
            self.scoreboard.predicted(answer.series, answer.kcal, answer.made_at)
            self.meters.predicted(answer.series, answer.kcal)
            if answer.replaced_at is not None:
                self.scoreboard.replaced(answer.replaced_at)

    async def learn(self, feedback: Feedback) -> tuple[Status, SpanRef | None]:
        """Join a truth, charge the prediction the first time; return the outcome and the span of what was charged.

        Raises:
            UnknownId, TruthConflict: as the store says; counted too.
            StoreUnavailable: as the store says; not counted, since the truth will come again.
        """
        self.serving_model()
        now = self.clock()
        joining = self.store.join(feedback.id, feedback.Calories, now)
        try:
            status, prediction = await _joined(self.telemetry.tracer, joining)
        except UnknownId:
            self.meters.joined("unknown")
            raise
        except TruthConflict:
            self.meters.joined("conflict")
            raise
        if prediction is None:
            self.meters.joined(status)
            return status, None
        self._charge(prediction, feedback.Calories, now)
        return status, prediction.span

    def learned_late(self, late: Late) -> None:
        """Charge a prediction with a truth that was refused when it came, or count one that was replaced."""
        if isinstance(late, LateReplacement):
            self.scoreboard.replaced(late.made_at)
        else:
            self._charge(*late)

    def _charge(self, prediction: Remembered, true_kcal: float, now: float) -> None:
        """Judge the prediction, and its shadow where it has one."""
        made_at, shadow = prediction.made_at, prediction.shadow
        self.meters.joined("matched", now - made_at)
        champion = self.scoreboard.judged(prediction.series, prediction.kcal, made_at, true_kcal, now)
        if shadow is not None:
            challenger = self.scoreboard.judged(shadow.series, shadow.kcal, made_at, true_kcal, now)
            pair = Pair(prediction.series.model_version, shadow.series.model_version)
            self.scoreboard.compared(pair, champion, challenger)

    def _compare(self, model: ServingModel | None, replaced: ServingModel | None) -> None:
        """Show what training measured of `model`, and no more what it measured of the one before."""
        if replaced is not None:
            self.meters.training_rmsle.pop(replaced.series, None)
        figure = model.bundle.manifest.training_metrics.get(TRAINING_FIGURE) if model is not None else None
        if model is not None and figure is not None:
            self.meters.training_rmsle[model.series] = figure

    async def _shadow(self, challenger: ServingModel, workout: Workout, answer: Answer) -> None:
        if challenger.in_use >= SHADOWS_AT_ONCE or self.meters.event_loop_lag > SHADOW_LOOP_LAG:
            self.meters.shadowed("shed")
            return
        try:
            kcal = await challenger.score(workout)
        except ScoringError as error:
            self.meters.shadowed("failed")
            if self._silent is not challenger:  # not at every record; and not what the error says, it may quote one
                self._silent = challenger
                version = challenger.series.model_version
                tell(CHALLENGER_SILENT, {"model_version": version, "error.type": type(error).__name__})
            return
        if await self.store.attach(workout.id, answer.made_at, Shadow(kcal, challenger.series)):
            self.scoreboard.predicted(challenger.series, kcal, answer.made_at)
        self.meters.shadowed("scored")


async def _scored(tracer: Tracer, model: ServingModel, workout: Workout) -> float:
    """Return what `ServingModel.score` returns, and record it as a span."""
    with tracer.start_as_current_span(SCORE.name, attributes=model.told) as span:
        try:
            return await model.score(workout)
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            raise


async def _joined(tracer: Tracer, joining: Awaitable[Joined]) -> Joined:
    """Return what `JoinStore.join` returns. An unknown id and a conflict are outcomes, not faults."""
    if recording_span() is None:
        return await joining
    with tracer.start_as_current_span(JOIN.name, record_exception=False, set_status_on_exception=False) as span:
        try:
            found = await joining
        except (UnknownId, TruthConflict) as outcome:
            span.set_attribute("outcome", "unknown" if isinstance(outcome, UnknownId) else "conflict")
            raise
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR)
            raise
        span.set_attribute("outcome", found.status)
        return found


def _registered(model: ServingModel) -> dict[str, str]:
    return {"registered": str(model.origin.version)} if model.origin.version else {}


def _info_labels(model: ServingModel) -> dict[str, str]:
    manifest = model.bundle.manifest
    return {
        "model_version": manifest.model_version,
        "engine": model.engine,
        "run_id": manifest.mlflow_run_id or "",
        "git_sha": manifest.git_sha or "",
    }


def create_service(
    settings: Settings, telemetry: Telemetry, lifecycle: Lifecycle, clock: Callable[[], float]
) -> Service:
    """Wire a service that has no model yet, and whose store is not open yet."""
    store = create_store(settings, clock)
    scoreboard = Scoreboard(settings.quality_window, settings.feedback_delay)
    return Service(
        settings=settings,
        telemetry=telemetry,
        lifecycle=lifecycle,
        clock=clock,
        store=store,
        scoreboard=scoreboard,
        in_flight=InFlight(settings.max_in_flight),
        meters=Meters(telemetry, scoreboard, store, clock),
    )

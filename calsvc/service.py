"""One service: a model that answers, a store that remembers, a scoreboard that judges. No HTTP in it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from calsvc.admission import Admission
from calsvc.errors import NotReady, TruthConflict, UnknownId
from calsvc.feedback.quality import CHAMPION, Scoreboard, Series
from calsvc.feedback.store import JoinStore, MemoryStore, Remembered, SpanRef
from calsvc.lifecycle import Lifecycle
from calsvc.metering import Meters
from calsvc.model.bundle import Bundle
from calsvc.model.scorer import Scorer
from calsvc.schema import Feedback, RecordId, Workout
from calsvc.settings import Settings
from observability.telemetry import Telemetry

HOUSEKEEPING_INTERVAL: Final = 0.5
"""Seconds between two rounds of forgetting what is past its retention and of measuring the event loop's lag."""
SWEEP_PER_ROUND: Final = 2000


@dataclass(frozen=True, slots=True)
class ServingModel:
    """What answers at the moment."""

    bundle: Bundle
    scorer: Scorer
    series: Series


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction that has been remembered and is about to be sent."""

    id: RecordId
    kcal: float
    made_at: float
    series: Series


@dataclass(slots=True)
class Service:
    """Everything an endpoint may touch. `clock`: monotonic seconds."""

    settings: Settings
    telemetry: Telemetry
    lifecycle: Lifecycle
    clock: Callable[[], float]
    store: JoinStore
    scoreboard: Scoreboard
    admission: Admission
    meters: Meters
    model: ServingModel | None = field(default=None)

    def install(self, bundle: Bundle, scorer: Scorer) -> None:
        """Answer with this model from now on."""
        manifest = bundle.manifest
        self.model = ServingModel(bundle, scorer, Series(manifest.model_version, CHAMPION))
        self.scoreboard.open(self.model.series)
        self.meters.model = {
            "model_version": manifest.model_version,
            "engine": scorer.engine,
            "run_id": manifest.mlflow_run_id or "",
            "git_sha": manifest.git_sha or "",
        }
        self.lifecycle.ready()

    def serving_model(self) -> ServingModel:
        """Return the model that answers; `NotReady` where there is none, or where the process has stopped answering."""
        if self.model is None or not self.lifecycle.serving:
            raise NotReady(f"the service is {self.lifecycle.phase.value}")
        return self.model

    async def predict(self, workout: Workout, span: SpanRef | None) -> Answer:
        """Score a workout and remember the prediction. It counts only when it was sent: see `answered`."""
        model = self.serving_model()
        kcal = await model.scorer.score(workout)
        made_at = self.clock()
        await self.store.remember(workout.id, Remembered(kcal, made_at, model.series, span))
        return Answer(workout.id, kcal, made_at, model.series)

    def answered(self, answer: Answer) -> None:
        """Count a prediction whose answer has gone out."""
        self.scoreboard.predicted(answer.series, answer.kcal, answer.made_at)
        self.meters.predicted(answer.series, answer.kcal)

    async def learn(self, feedback: Feedback) -> tuple[Literal["matched", "duplicate"], SpanRef | None]:
        """Join a truth, charge the prediction the first time; return the outcome and the prediction's span.

        Raises:
            UnknownId, TruthConflict: as the store says; counted too.
        """
        self.serving_model()
        now = self.clock()
        try:
            status, prediction = await self.store.join(feedback.id, feedback.Calories, now)
        except UnknownId:
            self.meters.joined("unknown")
            raise
        except TruthConflict:
            self.meters.joined("conflict")
            raise
        lag = None
        if status == "matched":
            lag = now - prediction.made_at
            self.scoreboard.judged(prediction.series, prediction.kcal, prediction.made_at, feedback.Calories, now)
        self.meters.joined(status, lag)
        return status, prediction.span


def create_service(
    settings: Settings, telemetry: Telemetry, lifecycle: Lifecycle, clock: Callable[[], float]
) -> Service:
    """Wire a service that has no model yet."""
    store = MemoryStore(settings.feedback_retention, settings.max_pending)
    scoreboard = Scoreboard(settings.quality_window, settings.feedback_delay)
    return Service(
        settings=settings,
        telemetry=telemetry,
        lifecycle=lifecycle,
        clock=clock,
        store=store,
        scoreboard=scoreboard,
        admission=Admission(settings.max_in_flight),
        meters=Meters(telemetry.meter, scoreboard, store, clock),
    )

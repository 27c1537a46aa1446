"""The steps of a request that has a span. One that has none does not come by here: it pays nothing for them."""

from collections.abc import Awaitable

from calsvc.errors import TruthConflict, UnknownId
from calsvc.feedback.records import Joined
from calsvc.schema import Workout
from calsvc.serving import ServingModel
from observability.signals import JOIN, SCORE
from observability.tracing import RequestSpan


async def scored(model: ServingModel, workout: Workout, span: RequestSpan) -> float:
    """Return what `ServingModel.score` returns."""
    with span.step(SCORE, model.told):
        return await model.score(workout)


async def joined(joining: Awaitable[Joined], span: RequestSpan) -> Joined:
    """Return what `JoinStore.join` returns. An unknown id and a conflict are outcomes, not faults."""
    with span.step(JOIN, {}, UnknownId, TruthConflict) as step:
        try:
            found = await joining
        except UnknownId:
            step.attributes = {"outcome": "unknown"}
            raise
        except TruthConflict:
            step.attributes = {"outcome": "conflict"}
            raise
        step.attributes = {"outcome": found.status}
        return found

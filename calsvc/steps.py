"""The steps of a request that is recorded, as spans of their own. Others pay nothing for them."""

from collections.abc import Awaitable

from opentelemetry.trace import StatusCode, Tracer

from calsvc.feedback.records import Joined
from calsvc.http.errors import TruthConflict, UnknownId
from calsvc.http.schema import Workout
from calsvc.serving import ServingModel
from observability.signals import JOIN, SCORE
from observability.tracing import recording_span


async def scored(tracer: Tracer, model: ServingModel, workout: Workout) -> float:
    """Return what `ServingModel.score` returns."""
    if recording_span() is None:
        return await model.score(workout)
    with tracer.start_as_current_span(SCORE.name, attributes=model.told) as span:
        try:
            return await model.score(workout)
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            raise


async def joined(tracer: Tracer, joining: Awaitable[Joined]) -> Joined:
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

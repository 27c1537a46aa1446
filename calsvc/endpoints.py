"""Parse, call, reply: nothing else happens here."""

from typing import Any, Final, TypedDict

import msgspec
from opentelemetry import trace
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calsvc.errors import BodyTooLarge, NotReady, WrongMediaType
from calsvc.feedback.store import SpanRef
from calsvc.info import describe
from calsvc.lifecycle import Phase
from calsvc.openapi import document
from calsvc.schema import FeedbackStatus, Prediction, parse_feedback, parse_workout
from calsvc.service import Service

MAX_BODY: Final = 64 * 1024
"""Bytes of a request body that are read; a record has some 150."""
JSON: Final = "application/json"


class State(TypedDict):
    """What the lifespan hands to every request."""

    service: Service


async def predict(request: Request[State]) -> Response:
    """Answer one workout."""
    service = request.state["service"]
    service.serving_model()
    workout = parse_workout(await _json_body(request))
    with service.admission.admitted():  # not around the reading: a client that dawdles takes nobody's place
        answer = await service.predict(workout, _current_span())

    async def count() -> None:
        await service.answered(workout, answer)

    reply = _json(Prediction(answer.id, answer.kcal), headers={"X-Model-Version": answer.series.model_version})
    reply.background = BackgroundTask(count)  # runs when the reply has been sent: what was not sent does not count
    return reply


async def feedback(request: Request[State]) -> Response:
    """Take the truth of one record."""
    service = request.state["service"]
    service.serving_model()
    truth = parse_feedback(await _json_body(request))
    with service.admission.admitted():
        status, predicted_in = await service.learn(truth)
    if predicted_in is not None:
        trace.get_current_span().add_link(_span_context(predicted_in))
    return _json(FeedbackStatus(truth.id, status))


async def healthz(request: Request[State]) -> Response:
    """Say whether predictions can be answered."""
    request.state["service"].serving_model()
    return _json({"status": "ok"})


async def livez(request: Request[State]) -> Response:
    """Say whether the process should be left alone: true until it has failed."""
    if request.state["service"].lifecycle.phase is Phase.FAILED:
        raise NotReady("the service has failed and is about to exit")
    return _json({"status": "ok"})


async def readyz(request: Request[State]) -> Response:
    """Say whether new traffic should be sent here."""
    phase = request.state["service"].lifecycle.phase
    if phase is not Phase.READY:
        raise NotReady(f"the service is {phase.value}")
    return _json({"status": "ok"})


async def metrics(request: Request[State]) -> Response:
    """Show all metrics to Prometheus."""
    content, media_type = request.state["service"].telemetry.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": media_type})


async def info(request: Request[State]) -> Response:
    """Tell what is serving, and on what."""
    return _json(describe(request.state["service"]))


async def openapi(_: Request[State]) -> Response:
    """Describe this interface."""
    return _json(document())


ROUTES: Final = [
    Route("/predict", predict, methods=["POST"]),
    Route("/feedback", feedback, methods=["POST"]),
    Route("/healthz", healthz),
    Route("/livez", livez),
    Route("/readyz", readyz),
    Route("/metrics", metrics),
    Route("/info", info),
    Route("/openapi.json", openapi),
]
QUIET: Final = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})
"""Asked by machines every few seconds: not in the request metrics, not traced."""


async def _json_body(request: Request[State]) -> bytes:
    """Read the body of a request that says it is JSON, up to `MAX_BODY` bytes."""
    media_type = request.headers.get("content-type", "")
    if media_type != JSON and media_type.partition(";")[0].strip().lower() != JSON:
        raise WrongMediaType(f"Content-Type is {media_type!r}, expected {JSON}")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise BodyTooLarge(f"the body is larger than {MAX_BODY} bytes")
    return body


def _json(content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), media_type=JSON, headers=headers)


def _current_span() -> SpanRef | None:
    """Return the span of this request where one is recorded and kept, for the feedback to link to."""
    context = trace.get_current_span().get_span_context()
    return SpanRef(context.trace_id, context.span_id) if context.trace_flags.sampled else None


def _span_context(span: SpanRef) -> trace.SpanContext:
    return trace.SpanContext(
        span.trace_id, span.span_id, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED)
    )

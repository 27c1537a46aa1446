"""Parse, call, reply: nothing else happens here."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from calsvc.admission import Doorman
from calsvc.connections import Connections
from calsvc.errors import NotReady
from calsvc.info import describe
from calsvc.lifecycle import Phase
from calsvc.openapi import document
from calsvc.outbox import Outbox
from calsvc.schema import FeedbackStatus, Prediction, parse_feedback, parse_workout
from calsvc.service import Service
from calsvc.web import routes as page
from observability.tracing import RequestSpan


class State(page.PageState):
    """What the lifespan hands to every request."""

    service: Service
    doorman: Doorman
    connections: Connections
    outbox: Outbox
    ports: Mapping[int, ASGIApp]
    """Which application answers there, where it is another than on the first port."""


class Reply(NamedTuple):
    """The answer 200 with a JSON body. `sent` is called when it has gone out: what was not sent does not count."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    sent: Callable[[], Awaitable[None] | None] | None = None


async def predict(service: Service, body: bytes, span: RequestSpan | None) -> Reply:
    """Answer one workout."""
    model = service.serving_model()
    workout = parse_workout(body)
    answer = await service.predict(model, workout, span)
    content = msgspec.json.encode(Prediction(answer.id, answer.kcal))
    return Reply(content, (model.header,), partial(service.answered, workout, answer))


async def feedback(service: Service, body: bytes, span: RequestSpan | None) -> Reply:
    """Take the truth of one record."""
    service.serving_model()
    truth = parse_feedback(body)
    status, predicted_in = await service.learn(truth, span)
    if span is not None and predicted_in is not None:
        span.linked = predicted_in
    return Reply(msgspec.json.encode(FeedbackStatus(truth.id, status)))


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
    service = request.state["service"]
    service.count()
    content, media_type = service.telemetry.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": media_type})


async def info(request: Request[State]) -> Response:
    """Tell what is serving, and on what."""
    return _json(describe(request.state["service"]))


async def openapi(request: Request[State]) -> Response:
    """Describe this interface, as far as it is to be had at this port."""
    here = frozenset(route.path for route in request.app.routes)
    return _json(document(here, guarded=request.state["service"].settings.bearer is not None))


async def _answered_before(request: Request[State]) -> Response:
    raise AssertionError(f"{request.url.path} is answered in front of Starlette, which only refuses other methods")


CALLS: Final = {"/predict": predict, "/feedback": feedback}
"""Answered for POST, without Starlette; see `direct`."""
FOR_CLIENTS: Final = [Route(path, _answered_before, methods=["POST"]) for path in CALLS]
FOR_ALL: Final = [
    Route("/healthz", healthz),
    Route("/livez", livez),
    Route("/readyz", readyz),
    Route("/openapi.json", openapi),
]
FOR_OPERATORS: Final = [Route("/metrics", metrics), Route("/info", info), *page.ROUTES]
ROUTES: Final = [*FOR_CLIENTS, *FOR_ALL, *FOR_OPERATORS]
QUIET: Final = frozenset({"/healthz", "/livez", "/readyz", "/metrics"}) | page.QUIET
"""Asked by machines every few seconds, or by who only watches: not in the request metrics, not traced."""


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")

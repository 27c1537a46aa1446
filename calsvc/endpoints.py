"""The routes: parse, call, reply."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypedDict

import msgspec
from prometheus_client import make_asgi_app
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from calsvc.http.errors import NotReady
from calsvc.http.info import describe
from calsvc.http.middleware import OF_CALLS, BearerToken, InFlightLimit, JsonBody, SecurityHeaders
from calsvc.http.openapi import document
from calsvc.http.schema import FeedbackStatus, Prediction, parse_feedback, parse_workout
from calsvc.lifecycle import Phase
from calsvc.service import Service
from calsvc.web import routes as page
from observability.tracing import linked_context, recording_span


class State(TypedDict):
    """What the lifespan hands to every request."""

    service: Service
    page: page.Page


class Reply(NamedTuple):
    """The answer 200 with a JSON body. `sent` is called when it has gone out: what was not sent does not count."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    sent: Callable[[], Awaitable[None] | None] | None = None


Answer = Callable[[Service, bytes], Awaitable[Reply]]


class JsonCall:
    """ASGI endpoint from JSON to JSON, without Starlette's request and response, which cost as much again."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; `JsonBody` has read the body."""
        message = await receive()
        reply = await self._answer(scope["state"]["service"], message["body"])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(reply.body)),
            *OF_CALLS,
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        if reply.sent is not None and (rest := reply.sent()) is not None:
            await rest


async def predict(service: Service, body: bytes) -> Reply:
    """Answer one workout."""
    model = service.serving_model()
    workout = parse_workout(body)
    answer = await service.predict(model, workout)
    content = msgspec.json.encode(Prediction(answer.id, answer.kcal))
    return Reply(content, (model.header,), partial(service.answered, workout, answer))


async def feedback(service: Service, body: bytes) -> Reply:
    """Take the label of one record, and link its span to the prediction's."""
    service.serving_model()
    label = parse_feedback(body)
    # A join needs no waiting: without this, it would be over before the request that came after it is counted.
    await asyncio.sleep(0)
    status, predicted_in = await service.learn(label)
    if predicted_in is not None and (span := recording_span()) is not None:
        span.add_link(linked_context(predicted_in))
    return Reply(msgspec.json.encode(FeedbackStatus(label.id, status)))


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


async def info(request: Request[State]) -> Response:
    """Tell what is serving, and on what."""
    return _json(describe(request.state["service"]))


async def openapi(request: Request[State]) -> Response:
    """Describe this interface, as far as it is to be had at this port."""
    here = frozenset(route.path for route in request.app.routes)
    return _json(document(here, guarded=request.state["service"].settings.bearer is not None))


class Metrics:
    """prometheus_client's ASGI application, with the numbers brought up to date before each scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._app = make_asgi_app(service.telemetry.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a scrape."""
        self._service.count()
        try:
            await self._app(scope, receive, send)
        except (ValueError, TypeError):  # the library takes any text for a version of a format, and cannot read it
            headers = [each for each in scope["headers"] if each[0] != b"accept"]
            await self._app({**scope, "headers": headers}, receive, send)


def calls(service: Service) -> list[Route]:
    """Return the routes for those who send records."""
    middleware = [Middleware(JsonBody), Middleware(InFlightLimit, service.in_flight)]
    if (token := service.settings.bearer) is not None:
        middleware.insert(0, Middleware(BearerToken, token))
    answers = {"/predict": predict, "/feedback": feedback}
    return [Route(path, JsonCall(answers[path]), methods=["POST"], middleware=middleware) for path in CALLS]


def for_operators(service: Service) -> list[Route]:
    """Return the routes for those who run the service."""
    return [
        _route("/metrics", Metrics(service)),
        _route("/info", info),
        *(_route(path, endpoint) for path, endpoint in page.ROUTES.items()),
    ]


def _route(path: str, endpoint: Callable[..., Any]) -> Route:
    return Route(path, endpoint, methods=["GET"], middleware=[Middleware(SecurityHeaders)])


CALLS: Final = ("/predict", "/feedback")
FOR_ALL: Final = [
    _route("/healthz", healthz),
    _route("/livez", livez),
    _route("/readyz", readyz),
    _route("/openapi.json", openapi),
]
QUIET: Final = frozenset({"/healthz", "/livez", "/readyz", "/metrics"}) | page.QUIET
"""Requests of machines every few seconds, and of pages that are only looked at: neither in the metrics nor traced."""


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")

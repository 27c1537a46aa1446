"""The application: routes, what opens and closes with it, and which HTTP answer each error becomes."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, NamedTuple

import anyio
import msgspec
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from calsvc import errors
from calsvc.endpoints import QUIET, ROUTES, State
from calsvc.loading import ModelSource
from calsvc.schema import Problem
from calsvc.service import Service
from observability.asgi import RequestMetrics

HOUSEKEEPING_INTERVAL: Final = 0.5
"""Seconds between two rounds of forgetting what is past its retention and of measuring the event loop's lag."""
SWEEP_PER_ROUND: Final = 2000


class ProblemKind(NamedTuple):
    """How one kind of error is answered. `retry_after` in seconds, where trying again makes sense."""

    status: int
    slug: str
    title: str
    retry_after: int | None = None


PROBLEMS: Final[dict[type[Exception], ProblemKind]] = {
    errors.NotJson: ProblemKind(400, "not-json", "The body is not JSON"),
    errors.UnknownId: ProblemKind(404, "unknown-id", "No such prediction waits for its truth"),
    errors.TruthConflict: ProblemKind(409, "truth-conflict", "Another truth already stands"),
    errors.BodyTooLarge: ProblemKind(413, "body-too-large", "The body is too large"),
    errors.WrongMediaType: ProblemKind(415, "wrong-media-type", "The body is not declared as JSON"),
    errors.InvalidInput: ProblemKind(422, "invalid-input", "A field is missing, wrong or implausible"),
    errors.ScoringError: ProblemKind(500, "scoring-failed", "The model gave no usable answer"),
    errors.NotReady: ProblemKind(503, "not-ready", "The service is not ready", retry_after=1),
    errors.Overloaded: ProblemKind(503, "overloaded", "The service is overloaded", retry_after=1),
    Exception: ProblemKind(500, "internal-error", "The service made a mistake"),
}


def create_app(service: Service, source: ModelSource) -> Starlette:
    """Build the application. Its lifespan opens everything; the model loads while probes are answered already."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_keep_model, service, source)
            tasks.start_soon(_keep_house, service)
            yield {"service": service}
            tasks.cancel_scope.cancel()
        await source.aclose()
        await service.close()

    app = Starlette(
        routes=ROUTES,
        middleware=_middleware(service),
        exception_handlers={
            errors.CalsvcError: _domain_problem,
            HTTPException: _http_problem,
            ClientDisconnect: _nobody_listens,
            Exception: _unexpected_problem,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # /predict/ does not exist; a redirect of a POST would only hide that
    return app


def _middleware(service: Service) -> list[Middleware]:
    measured = Middleware(
        RequestMetrics,
        histogram=service.meters.request_duration,
        routes=[route.path for route in ROUTES],
        quiet=QUIET,
        clock=time.perf_counter,
    )
    if not service.telemetry.tracing:
        return [measured]
    # Only its server spans: its own metrics and its send and receive spans are the expensive part.
    traced = Middleware(
        OpenTelemetryMiddleware,
        excluded_urls=",".join(QUIET),
        tracer_provider=service.telemetry.tracer_provider,
        meter_provider=NoOpMeterProvider(),
        exclude_spans=["receive", "send"],
    )
    return [measured, traced]


async def _keep_model(service: Service, source: ModelSource) -> None:
    try:
        await source.start()
    except errors.CalsvcError as failure:
        service.lifecycle.fail(failure)
        return
    await source.run()


async def _keep_house(service: Service) -> None:
    while True:
        asleep_at = service.clock()
        await anyio.sleep(HOUSEKEEPING_INTERVAL)
        now = service.clock()
        service.meters.event_loop_lag = max(0.0, now - asleep_at - HOUSEKEEPING_INTERVAL)
        service.store.sweep(now, SWEEP_PER_ROUND)


# --- errors -----------------------------------------------------------------------------------------------------------


async def _domain_problem(_: Request, error: Exception) -> Response:
    kind = next(PROBLEMS[cls] for cls in type(error).__mro__ if cls in PROBLEMS)
    return _problem(kind, str(error), field=getattr(error, "field", None))


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette dispatches by this very class
    title = HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    detail = {
        404: f"there is nothing at {request.url.path}; see /openapi.json",
        405: f"{request.url.path} does not take {request.method}",
    }.get(error.status_code, error.detail)
    response = _problem(ProblemKind(error.status_code, slug, title), detail)
    response.headers.update(error.headers or {})
    return response


async def _unexpected_problem(_: Request, __: Exception) -> Response:
    return _problem(PROBLEMS[Exception], "the cause is in the service's log")


async def _nobody_listens(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # the client has gone; this reaches the metrics and nobody else


def _problem(kind: ProblemKind, detail: str, field: str | None = None) -> Response:
    span = trace.get_current_span().get_span_context()
    problem = Problem(
        type=f"urn:calsvc:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        field=field if field is not None else msgspec.UNSET,
        trace_id=trace.format_trace_id(span.trace_id) if span.is_valid else msgspec.UNSET,
    )
    headers = {"Content-Type": "application/problem+json"}
    if kind.retry_after is not None:
        headers["Retry-After"] = str(kind.retry_after)
    return Response(msgspec.json.encode(problem), kind.status, headers)

"""The application: routes, what opens and closes with it, and which HTTP answer each error becomes."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, NamedTuple

import anyio
import msgspec
from opentelemetry.trace import format_trace_id
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from calsvc import errors
from calsvc.admission import Doorman
from calsvc.direct import Direct
from calsvc.endpoints import CALLS, QUIET, ROUTES, State
from calsvc.loading import ModelSource
from calsvc.protocol import Outbox
from calsvc.schema import Problem
from calsvc.service import Service
from calsvc.web.routes import Page
from observability.asgi import Observed, Recorder, Watched
from observability.callers import caller_of
from observability.events import tell
from observability.logs import flush_logs
from observability.signals import REQUESTS_REFUSED
from observability.tracing import current_ids

HOUSEKEEPING_INTERVAL: Final = 0.5
"""Seconds between two rounds of forgetting what is past its retention and of measuring the event loop's lag."""
SWEEP_PER_ROUND: Final = 2000
AT_ZERO: Final = (200, 500, 503)
"""Answers to the calls that are counted from 0, not from their first: else Prometheus sees no increase in that one."""


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
    errors.StoreUnavailable: ProblemKind(503, "store-unavailable", "The store is out of reach", retry_after=2),
    errors.Overloaded: ProblemKind(503, "overloaded", "The service is overloaded", retry_after=1),
    Exception: ProblemKind(500, "internal-error", "The service made a mistake"),
}


def create_app(service: Service, source: ModelSource) -> Direct:
    """Build the application. Its lifespan opens everything; the model loads while probes are answered already."""
    recorder = _recorder(service)
    for path in CALLS:
        for status in AT_ZERO:
            service.meters.request_duration.labels(path, "POST", str(status))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        page = Page(service, time.time)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_keep_up, service, source)
                tasks.start_soon(_keep_house, service, recorder)
                tasks.start_soon(page.sampler.run)
                yield {"service": service, "doorman": _doorman(service), "outbox": Outbox(), "page": page}
                tasks.cancel_scope.cancel()
        finally:
            recorder.tell()
            service.count()
            await source.aclose()
            await service.close()

    starlette = Starlette(
        routes=ROUTES,
        exception_handlers={
            errors.CalsvcError: _starlette_problem,
            HTTPException: _http_problem,
            Exception: _starlette_problem,
        },
        lifespan=lifespan,
    )
    starlette.router.redirect_slashes = False  # /predict/ does not exist; a redirect of a POST would only hide that
    return Direct(Observed(starlette, recorder), service, recorder, problem_of)


def _doorman(service: Service) -> Doorman:
    refusal = _problem(PROBLEMS[errors.Overloaded], f"{service.admission.limit} requests are waiting already")
    counted = {path: service.meters.request_duration.labels(path, "POST", str(refusal.status_code)) for path in CALLS}
    return Doorman(service.admission, as_bytes(refusal), counted)


def _recorder(service: Service) -> Recorder:
    watched = Watched(
        duration=service.meters.request_duration,
        routes=[route.path for route in ROUTES],
        quiet=QUIET,
        sampling=service.settings.trace_sampling,
        spans=service.telemetry.request_spans,
        clock=time.perf_counter,
    )
    return Recorder(watched)


async def _keep_up(service: Service, source: ModelSource) -> None:
    """Open the store, then the model: the first request may be a truth of before."""
    try:
        await service.restore()
        await source.start()
    except errors.CalsvcError as failure:
        service.lifecycle.fail(failure)
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.store.run, service.joined_late)
        tasks.start_soon(source.run)


async def _keep_house(service: Service, recorder: Recorder) -> None:
    while True:
        asleep_at, refused = service.clock(), service.admission.refused
        await anyio.sleep(HOUSEKEEPING_INTERVAL)
        now = service.clock()
        service.meters.event_loop_lag = max(0.0, now - asleep_at - HOUSEKEEPING_INTERVAL)
        service.store.sweep(now, SWEEP_PER_ROUND)
        recorder.tell()
        service.count()
        if refused := service.admission.refused - refused:
            tell(REQUESTS_REFUSED, {"refused": refused, "seconds": HOUSEKEEPING_INTERVAL})
        flush_logs()


# --- errors -----------------------------------------------------------------------------------------------------------


def problem_of(error: Exception, scope: Scope) -> Response:
    """Return the answer to a request that failed: what the table says, and nothing of what is inside the service."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # the client has gone; this reaches the metrics and nobody else
    kind = next(PROBLEMS[cls] for cls in type(error).__mro__ if cls in PROBLEMS)
    detail = str(error) if isinstance(error, errors.CalsvcError) else "the cause is in the service's log"
    return _problem(kind, detail, getattr(error, "field", None), _trace_id(scope))


async def _starlette_problem(request: Request, error: Exception) -> Response:
    return problem_of(error, request.scope)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette dispatches by this very class
    title = HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    detail = {
        404: f"there is nothing at {request.url.path}; see /openapi.json",
        405: f"{request.url.path} does not take {request.method}",
    }.get(error.status_code, error.detail)
    response = _problem(ProblemKind(error.status_code, slug, title), detail, trace_id=_trace_id(request.scope))
    response.headers.update(error.headers or {})
    return response


def _problem(kind: ProblemKind, detail: str, field: str | None = None, trace_id: str | None = None) -> Response:
    problem = Problem(
        type=f"urn:calsvc:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        field=field if field is not None else msgspec.UNSET,
        trace_id=trace_id or msgspec.UNSET,
    )
    headers = {"Content-Type": "application/problem+json"}
    if kind.retry_after is not None:
        headers["Retry-After"] = str(kind.retry_after)
    return Response(msgspec.json.encode(problem), kind.status, headers)


def as_bytes(response: Response) -> bytes:
    """Return a response as HTTP/1.1 writes it."""
    status = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}\r\n".encode()
    return status + b"".join(b"%b: %b\r\n" % header for header in response.raw_headers) + b"\r\n" + bytes(response.body)


def _trace_id(scope: Scope) -> str | None:
    """Return the trace that a request belongs to: that of its own span, or of the caller's where it has none."""
    if own := current_ids():
        return own["trace_id"]
    caller = caller_of(scope["headers"])
    return format_trace_id(caller.trace_id) if caller else None

"""The application: routes, and what opens and closes with it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan

from calsvc import errors
from calsvc.admission import Doorman
from calsvc.direct import Direct
from calsvc.endpoints import CALLS, FOR_ALL, FOR_CLIENTS, FOR_OPERATORS, QUIET, ROUTES, State
from calsvc.hardening import Hardened
from calsvc.loading import ModelSource
from calsvc.outbox import Outbox
from calsvc.problems import PROBLEMS, as_bytes, http_problem, problem, problem_of, starlette_problem
from calsvc.service import Service
from calsvc.web.routes import Page
from observability.asgi import Observed, Recorder, Watched
from observability.events import tell
from observability.logs import flush_logs
from observability.signals import REQUESTS_REFUSED

HOUSEKEEPING_INTERVAL: Final = 0.5
"""Seconds between two rounds of forgetting what is past its retention and of measuring the event loop's lag."""
SWEEP_PER_ROUND: Final = 2000
AT_ZERO: Final = (200, 500, 503)
"""Answers to the calls that are counted from 0, not from their first: else Prometheus sees no increase in that one."""


def create_app(service: Service, source: ModelSource, admin_port: int | None = None) -> Direct:
    """Build the application. Its lifespan opens everything; the model loads while probes are answered already.

    Args:
        service: what answers.
        source: where its models come from.
        admin_port: where what is for operators is answered, and only there; None: here, with everything else.
    """
    recorder = _recorder(service)
    for path in CALLS:
        for status in AT_ZERO:
            service.meters.request_duration.labels(path, "POST", str(status))
    ports: dict[int, ASGIApp] = {}
    if admin_port is not None:
        ports[admin_port] = Observed(Hardened(_starlette([*FOR_OPERATORS, *FOR_ALL])), recorder)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        page = Page(service, time.time)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_keep_up, service, source)
                tasks.start_soon(_keep_house, service, recorder)
                tasks.start_soon(page.sampler.run)
                yield {
                    "service": service,
                    "doorman": _doorman(service),
                    "connections": service.connections,
                    "outbox": Outbox(),
                    "ports": ports,
                    "page": page,
                }
                tasks.cancel_scope.cancel()
        except Exception as crash:  # uvicorn would serve on, with nobody behind it
            service.lifecycle.fail(errors.PartFailed(crash))
            raise
        finally:
            recorder.tell()
            service.count()
            await source.aclose()
            await service.close()

    starlette = _starlette(ROUTES if admin_port is None else [*FOR_CLIENTS, *FOR_ALL], lifespan)
    return Direct(Observed(Hardened(starlette), recorder), service, recorder, problem_of)


def _starlette(routes: Sequence[Route], lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    starlette = Starlette(
        routes=routes,
        exception_handlers={
            errors.CalsvcError: starlette_problem,
            HTTPException: http_problem,
            Exception: starlette_problem,
        },
        lifespan=lifespan,
    )
    starlette.router.redirect_slashes = False  # /predict/ does not exist; a redirect of a POST would only hide that
    return starlette


def _doorman(service: Service) -> Doorman:
    refusal = problem(PROBLEMS[errors.Overloaded], f"{service.admission.limit} requests are waiting already")
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
        service.connections.sweep()
        recorder.tell()
        service.count()
        if refused := service.admission.refused - refused:
            tell(REQUESTS_REFUSED, {"refused": refused, "seconds": HOUSEKEEPING_INTERVAL})
        flush_logs()

"""The application: routes, middleware, and what opens and closes with it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan

from calsvc.endpoints import CALLS, FOR_ALL, QUIET, State, calls, for_operators
from calsvc.http import errors
from calsvc.http.middleware import CloseWhileDraining
from calsvc.http.problems import http_problem, starlette_problem
from calsvc.registry.loading import ModelSource
from calsvc.service import Service
from calsvc.web.routes import Page
from observability.events import tell
from observability.requests import Paths, RequestTelemetry
from observability.signals import REQUESTS_REFUSED

HOUSEKEEPING_INTERVAL: Final = 0.5
"""Seconds between two rounds of removing what is past its retention and of measuring the event loop's lag."""
SWEEP_PER_ROUND: Final = 2000
COUNTED_FROM_ZERO: Final = (("200", ""), ("500", "500"), ("503", "503"))
"""Status and error of answers whose series begin at 0: Prometheus would miss the increase to the first of them."""


class Apps(NamedTuple):
    """What is served on the first port, and on the second one where there is one."""

    first: ASGIApp
    second: ASGIApp | None


def create_app(service: Service, source: ModelSource, two_ports: bool = False) -> Apps:
    """Build the application. Its lifespan opens everything; the model loads while probes are answered already.

    Args:
        service: answers.
        source: where its models come from.
        two_ports: whether what is for operators is on a port of its own, and only there.
    """
    state: State = {"service": service, "page": Page(service, time.time)}
    operators = for_operators(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[State]:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_keep_up, service, source)
                tasks.start_soon(_keep_house, service)
                tasks.start_soon(state["page"].sampler.run)
                yield state
                tasks.cancel_scope.cancel()
        except Exception as crash:  # uvicorn would serve on, without what has failed
            service.lifecycle.fail(errors.PartFailed(crash))
            raise
        finally:
            service.count()
            await source.aclose()
            await service.close()

    @asynccontextmanager
    async def second_lifespan(_: Starlette) -> AsyncIterator[State]:
        yield state

    if not two_ports:
        return Apps(_observed(service, [*calls(service), *FOR_ALL, *operators], lifespan), None)
    return Apps(
        _observed(service, [*calls(service), *FOR_ALL], lifespan),
        _observed(service, [*operators, *FOR_ALL], second_lifespan),
    )


def _observed(service: Service, routes: Sequence[Route], lifespan: Lifespan[Starlette]) -> ASGIApp:
    for path in CALLS:
        for status, error in COUNTED_FROM_ZERO:
            service.meters.request_duration.labels(path, "POST", status, "http", error)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(CloseWhileDraining, service.lifecycle)],
        exception_handlers={
            errors.CalsvcError: starlette_problem,
            ClientDisconnect: starlette_problem,
            HTTPException: http_problem,
            Exception: starlette_problem,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # /predict/ does not exist; a redirect of a POST would only hide that
    paths = Paths([route.path for route in routes], QUIET)
    observed = RequestTelemetry(app, service.telemetry.tracing, service.meters.request_duration, paths)
    service.meters.active.append(observed.active)
    return observed


async def _keep_up(service: Service, source: ModelSource) -> None:
    """Open the store, then the model: the first request may be a label of before."""
    try:
        await service.restore()
        await source.start()
    except errors.CalsvcError as failure:
        service.lifecycle.fail(failure)
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.store.run, service.learned_late)
        tasks.start_soon(source.run)


async def _keep_house(service: Service) -> None:
    while True:
        asleep_at, refused = service.clock(), service.in_flight.refused
        await anyio.sleep(HOUSEKEEPING_INTERVAL)
        now = service.clock()
        service.meters.event_loop_lag = max(0.0, now - asleep_at - HOUSEKEEPING_INTERVAL)
        service.store.sweep(now, SWEEP_PER_ROUND)
        service.count()
        if refused := service.in_flight.refused - refused:
            tell(REQUESTS_REFUSED, {"refused": refused, "seconds": HOUSEKEEPING_INTERVAL})

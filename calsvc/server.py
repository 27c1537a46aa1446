"""The process around the application: telemetry, uvicorn, and the order in which it ends.

SIGTERM: not ready any more, serving on for the drain delay while each answer closes its connection, then the port
closes, requests in flight finish, and store and telemetry are flushed. SIGINT, and a second signal: the same without
the delay. SIGHUP: look for a new model.
"""

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

import anyio
import uvicorn
from starlette.types import ASGIApp

from calsvc import __version__
from calsvc.app import create_app
from calsvc.lifecycle import Lifecycle, Phase
from calsvc.registry.loading import ModelSource, open_model_source
from calsvc.service import Service, create_service
from calsvc.settings import Settings
from observability.events import tell
from observability.logs import configure_logs
from observability.otel_environment import is_instrumented
from observability.profiles import start_profiles
from observability.provenance import resource_of
from observability.signals import SERVICE_DRAINING, SERVICE_READY, SERVICE_STOPPED, SETTING_WARNING
from observability.telemetry import Telemetry, processors_from

CLOSE_TIMEOUT: Final = 10
"""Seconds that requests in flight get to finish once the port is closed."""
KEEP_ALIVE: Final = 75
"""Seconds that an idle connection stays open: longer than the pause between two bursts."""


def serve(settings: Settings, listeners: Sequence[socket.socket], warnings: Sequence[str] = ()) -> None:
    """Serve on a listening socket, and on a second one for operators where there is one, until a signal ends it.

    Args:
        settings: of the service.
        listeners: one or two.
        warnings: about the environment, for the log.

    Raises:
        CalsvcError: why the service cannot answer.
    """
    anyio.run(_serve, settings, listeners, warnings, backend_options={"use_uvloop": True})


async def _serve(settings: Settings, listeners: Sequence[socket.socket], warnings: Sequence[str]) -> None:
    listener, admin = listeners[0], listeners[1] if len(listeners) > 1 else None
    resource = resource_of("calsvc")
    configure_logs(sys.stdout, resource)
    for each in warnings:
        tell(SETTING_WARNING, {"warning": each})
    telemetry = Telemetry(resource, [] if is_instrumented() else processors_from(os.environ))
    if not is_instrumented():
        telemetry.make_global()
    service = create_service(settings, telemetry, Lifecycle(), time.monotonic)
    service.profiles = start_profiles(
        settings.profiles_address.get_secret_value(), "calsvc", {"service_version": __version__}
    )
    source = open_model_source(service)
    apps = create_app(service, source, two_ports=admin is not None)
    first = uvicorn.Server(uvicorn_config(apps.first))
    second = uvicorn.Server(uvicorn_config(apps.second)) if apps.second is not None else None
    try:
        async with anyio.create_task_group() as servers, anyio.create_task_group() as tasks:
            if second is not None and admin is not None:
                servers.start_soon(second.serve, [admin])
            tasks.start_soon(_announce, service, listener, admin)
            tasks.start_soon(_end, service, first)
            # Last, so that its handlers of signals replace those that uvicorn installs as it begins to serve.
            tasks.start_soon(_handle_signals, service.lifecycle, source)
            await first.serve([listener])
            if second is not None:
                second.should_exit = True
            tasks.cancel_scope.cancel()
    finally:
        await anyio.to_thread.run_sync(telemetry.shutdown)
        await anyio.to_thread.run_sync(service.profiles.shutdown)
    if service.lifecycle.failure is not None:
        raise service.lifecycle.failure
    tell(SERVICE_STOPPED)


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # its warnings are of bytes that are no HTTP: any client could fill the log
        access_log=False,
        server_header=False,
        proxy_headers=False,
        reset_contextvars=True,  # a request on a connection begins without the span of the one before
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=CLOSE_TIMEOUT,
    )


async def _handle_signals(lifecycle: Lifecycle, source: ModelSource) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for received in signals:
            if received == signal.SIGHUP:
                source.poke()
            else:
                lifecycle.drain(patient=received == signal.SIGTERM)


async def _end(service: Service, server: uvicorn.Server) -> None:
    """Let the server end when the service is to end: after the drain delay, unless a second signal cuts it short."""
    lifecycle = service.lifecycle
    await lifecycle.wait_leaving()
    if lifecycle.phase is Phase.DRAINING:
        seconds = service.settings.drain_delay if lifecycle.patient else 0.0
        tell(SERVICE_DRAINING, {"seconds": seconds})
        with anyio.move_on_after(seconds):
            await lifecycle.wait_hurried()
    server.should_exit = True


async def _announce(service: Service, listener: socket.socket, admin: socket.socket | None) -> None:
    await service.lifecycle.wait_ready()
    gc.collect()
    gc.freeze()  # what exists now stays for good: the collector need not look at it again
    urls = {"url": _url(listener)} | ({"admin_url": _url(admin)} if admin is not None else {})
    tell(SERVICE_READY, {"version": __version__, **urls, **service.serving_model().told})


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

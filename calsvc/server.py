"""The process around the application: telemetry, uvicorn, and the order of leaving.

SIGTERM: not ready any more, serving on for the drain delay while each answer closes its connection, then the port
closes, requests in flight finish, and store and telemetry are flushed. SIGINT the same without the delay. A second
signal waits for nobody, and flushes all the same. SIGHUP: look for a new model.
"""

import asyncio
import gc
import signal
import socket
import sys
import time
from types import FrameType
from typing import Final

import anyio
import uvicorn
from starlette.types import ASGIApp

from calsvc import __version__
from calsvc.app import create_app
from calsvc.endpoints import CALLS
from calsvc.lifecycle import Lifecycle, Phase
from calsvc.loading import ModelSource, open_model_source
from calsvc.protocol import Protocol
from calsvc.service import Service, create_service
from calsvc.settings import Settings
from observability.events import tell
from observability.logs import configure_logs
from observability.profiles import start_profiles
from observability.provenance import resource_of
from observability.signals import SERVICE_DRAINING, SERVICE_READY, SERVICE_STOPPED
from observability.telemetry import Telemetry
from observability.tracing import current_ids

CLOSE_TIMEOUT: Final = 10
"""Seconds that requests in flight get to finish once the port is closed."""


def serve(settings: Settings, listener: socket.socket, admin: socket.socket | None = None) -> None:
    """Serve on a listening socket, and on a second one for operators where there is one, until a signal says to go.

    Raises:
        CalsvcError: why the service cannot answer.
    """
    anyio.run(_serve, settings, listener, admin, backend_options={"use_uvloop": True})


async def _serve(settings: Settings, listener: socket.socket, admin: socket.socket | None) -> None:
    resource = resource_of("calsvc")
    configure_logs(sys.stdout, resource, current_ids)
    lifecycle = Lifecycle()
    telemetry = Telemetry(resource, settings.collector)
    service = create_service(settings, telemetry, lifecycle, time.monotonic)
    service.profiles = start_profiles(
        settings.profiles_address.get_secret_value(), "calsvc", {"service_version": __version__}
    )
    source = open_model_source(service)
    app = service.profiles.endpoints(create_app(service, source, _port(admin) if admin else None), CALLS)
    server = Server(uvicorn_config(app), lifecycle)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_announce, service, listener, admin)
            tasks.start_soon(_leave, service, server)
            tasks.start_soon(_reload, source)
            await server.serve([listener] if admin is None else [listener, admin])
            tasks.cancel_scope.cancel()
    finally:
        await anyio.to_thread.run_sync(telemetry.shutdown)
        await anyio.to_thread.run_sync(service.profiles.shutdown)
    if lifecycle.failure is not None:
        raise lifecycle.failure
    tell(SERVICE_STOPPED)


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """Return how the application is served."""
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        reset_contextvars=True,  # the next request on a connection may begin within the one before: not its span
        timeout_graceful_shutdown=CLOSE_TIMEOUT,
    )


class Server(uvicorn.Server):
    """uvicorn's server with its one hook for signals: what a signal means is the lifecycle's business."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Begin to leave; at the second signal stop waiting for anybody."""
        self._loop.call_soon_threadsafe(self._told_to_go, sig)

    def _told_to_go(self, sig: int) -> None:
        if self._lifecycle.leaving:
            self._cut_off()
        self._lifecycle.drain(sig == signal.SIGTERM)

    def _cut_off(self) -> None:
        self.should_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()


async def _leave(service: Service, server: Server) -> None:
    lifecycle = service.lifecycle
    await lifecycle.wait_leaving()
    service.connections.parting = True
    if lifecycle.phase is Phase.DRAINING:
        seconds = service.settings.drain_delay if lifecycle.patient else 0.0
        tell(SERVICE_DRAINING, {"seconds": seconds})
        await anyio.sleep(seconds)
    server.should_exit = True


async def _reload(source: ModelSource) -> None:
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            source.poke()


async def _announce(service: Service, listener: socket.socket, admin: socket.socket | None) -> None:
    await service.lifecycle.wait_ready()
    gc.collect()
    gc.freeze()  # what exists now stays for good: the collector need not look at it again
    urls = {"url": _url(listener)} | ({"admin_url": _url(admin)} if admin is not None else {})
    tell(SERVICE_READY, {"version": __version__, **urls, **service.serving_model().told})


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _url(listener: socket.socket) -> str:
    host = listener.getsockname()[0]
    return f"http://[{host}]:{_port(listener)}" if ":" in host else f"http://{host}:{_port(listener)}"

"""A Starlette application on stock uvicorn that records the requests it gets."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tests.service_process import free_port

KEEP_ALIVE = 75
"""Seconds: longer than the proxy keeps unused connections to a replica."""


class Got(NamedTuple):
    """One request: method, path without query, body."""

    method: str
    path: str
    body: bytes


class Recorder(NamedTuple):
    """Where it listens, and what it has got, health checks aside."""

    url: str
    got: list[Got]


@contextmanager
def recorder() -> Iterator[Recorder]:
    """Run one in a thread, with the parser and the event loop that the service uses."""
    found = Recorder(f"http://127.0.0.1:{(port := free_port())}", [])
    config = uvicorn.Config(
        _app(found.got),
        port=port,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_level="critical",
        timeout_keep_alive=KEEP_ALIVE,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield found
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def _app(got: list[Got]) -> Starlette:
    app = Starlette()

    async def every(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await (await _answer(request))(scope, receive, send)

    async def _answer(request: Request) -> Response:
        path, body = request.scope["path"], await request.body()
        if path == "/readyz":
            return PlainTextResponse("ready")
        got.append(Got(request.method, path, body))
        if path == "/fields":
            return JSONResponse(request.headers.keys())
        if path == "/stream":
            return StreamingResponse(_ticks(), media_type="text/event-stream")
        return StreamingResponse(_endless(request, got)) if path == "/endless" else PlainTextResponse("recorded")

    app.mount("/", every)
    return app


async def _ticks() -> AsyncIterator[str]:
    """Send an event five times a second, fifteen times."""
    for number in range(15):
        yield f"data: {number}\n\n"
        await asyncio.sleep(0.2)


async def _endless(request: Request, got: list[Got]) -> AsyncIterator[bytes]:
    """Send until the connection ends, and record that."""
    while not await request.is_disconnected():
        yield bytes(2**16)
    got.append(Got("", "/endless", b"ended"))

"""What is logged of a request that died under a real server: under its own span, and under nobody else's."""

import io
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import uvicorn
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from calsvc.admission import Admission, Doorman
from calsvc.connections import Connections
from calsvc.outbox import Outbox
from calsvc.server import uvicorn_config
from observability.asgi import Observed, Recorder, Watched
from observability.instruments import create_histogram
from observability.logs import JsonLines
from observability.sampling import Sampling
from observability.signals import REQUEST_DURATION
from observability.tracing import RequestSpans, current_ids
from tests.service_process import PATIENCE

LOGGERS = ("calsvc", "uvicorn.error")
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"


async def dies(_: Request) -> JSONResponse:
    """Fail with words that quote a record."""
    raise ZeroDivisionError("of weight " + str(70 + 1))


async def ids(_: Request) -> JSONResponse:
    """Answer with the ids of the span that is current."""
    return JSONResponse(current_ids())


@asynccontextmanager
async def state(_: Starlette) -> AsyncIterator[dict[str, Any]]:
    """What the service's protocol needs of its application."""
    connections = Connections(100, time.monotonic)
    yield {"doorman": Doorman(Admission(100), b"", {}), "connections": connections, "outbox": Outbox(), "ports": {}}


def asked(requests: bytes) -> tuple[bytes, InMemorySpanExporter]:
    """Send bytes to a server on a real port; return all that came back, and what was traced."""
    exporter = InMemorySpanExporter()
    starlette = Starlette(routes=[Route("/dies", dies), Route("/ids", ids)], lifespan=state)
    watched = Watched(
        duration=create_histogram(CollectorRegistry(), REQUEST_DURATION),
        routes=["/dies", "/ids"],
        quiet=[],
        sampling=Sampling(),
        spans=RequestSpans(SimpleSpanProcessor(exporter), Resource({}), "test"),
        clock=time.perf_counter,
    )
    recorder = Recorder(watched)
    server = uvicorn.Server(uvicorn_config(Observed(starlette, recorder)))

    async def talk() -> bytes:
        received = b""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server._serve, [listener])  # noqa: SLF001 - `serve` would take the test run's signals
                await until(lambda: server.started)
                async with await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1]) as stream:
                    await stream.send(requests)
                    with anyio.fail_after(PATIENCE):
                        async for chunk in stream:
                            received += chunk
                server.should_exit = True
        recorder.tell()
        return received

    return anyio.run(talk), exporter


async def until(condition: Callable[[], bool]) -> None:
    """Let others work until something is so."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody would set an event
            await anyio.sleep(0.001)


def request(path: str, flag: int, more: str = "") -> bytes:
    """A request whose caller has (1) or has not (0) drawn it."""
    return f"GET {path} HTTP/1.1\r\nHost: here\r\ntraceparent: {CALLER}{flag}\r\n{more}\r\n".encode()


@pytest.mark.parametrize("drawn", [0, 1])
def test_the_line_about_a_request_that_died_names_its_span(drawn: int):
    """One line, drawn or not: a failure has a span in any case, and whoever finds the one finds the other."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        answer, exporter = asked(request("/dies", drawn, "Connection: close\r\n"))
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
    (span,) = exporter.get_finished_spans()
    (line,) = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert (line["event"], line["exception.type"]) == ("calsvc.request.failed", "ZeroDivisionError")
    assert (line["trace_id"], line["span_id"]) == (CALLER[3:35], f"{span.context.span_id:016x}")
    assert "weight 71" not in stream.getvalue()


def test_a_request_in_a_pipeline_does_not_run_under_the_span_before_it():
    """The second one is taken up while the first one's span is current, and was not drawn."""
    answer, _ = asked(request("/ids", 1) + request("/ids", 0, "Connection: close\r\n"))
    first, second = [json.loads(body) for body in re.findall(rb"\{.*?\}", answer)]
    assert first["trace_id"] == CALLER[3:35]
    assert second == {}

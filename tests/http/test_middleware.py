"""The middleware: limits, the end of connections while draining, and what the HTTP server gives no body of."""

import io
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from calsvc.http.errors import Overloaded
from calsvc.http.middleware import MAX_BODY, InFlight, InFlightLimit, JsonBody
from calsvc.lifecycle import Phase
from observability.instruments import create_histogram
from observability.logs import JsonLines
from observability.requests import Paths, RequestTelemetry
from observability.signals import REQUEST_DURATION
from observability.telemetry import Telemetry
from tests.http.test_schema import workout
from tests.http.wire import exchange, post, served
from tests.service_process import PATIENCE
from tests.test_app import JSON, Service, running

TRACEPARENT = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"
CLOSE = "Connection: close\r\n"


@pytest.fixture
def service(bundle: Path) -> Iterator[Service]:
    """A service with the default settings."""
    yield from running(bundle)


@pytest.fixture
def port(bundle: Path) -> Iterator[tuple[int, Service]]:
    """A service on a port of its own."""
    service = Service(bundle)
    with served(service.client.app) as port:
        until = time.monotonic() + PATIENCE
        while service.lifecycle.phase is Phase.STARTING:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield port, service
    service.telemetry.shutdown()


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_request_beyond_the_limit_is_refused_and_leaves_room_when_it_ends():
    """Those before it are answered; the one after them as well."""
    in_flight = InFlight(2)

    async def scenario() -> None:
        gate = anyio.Event()
        answered: list[int] = []

        async def app(_: Scope, __: Receive, ___: Send) -> None:
            await gate.wait()
            answered.append(in_flight.now)

        async def ask() -> None:
            await InFlightLimit(app, in_flight)({}, _nothing, _nothing)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Overloaded):
                await ask()
            gate.set()
        await ask()
        assert (len(answered), in_flight.now, in_flight.refused) == (3, 0, 1)

    anyio.run(scenario)


def test_a_request_that_fails_leaves_room_too():
    """Otherwise a service that fails for a while would refuse for good."""
    in_flight = InFlight(1)

    async def dies(_: Scope, __: Receive, ___: Send) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await InFlightLimit(dies, in_flight)({}, _nothing, _nothing)

    anyio.run(scenario)
    assert (in_flight.now, in_flight.refused) == (0, 0)


def test_an_overloaded_service_says_when_to_try_again(service: Service):
    """503, a problem, Retry-After; counted as an answer, and not as a prediction."""
    service.state.in_flight.now = service.state.in_flight.limit
    answer = service.predict()
    service.state.in_flight.now = 0
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["type"] == "urn:calsvc:problem:overloaded"
    assert service.predict().status_code == 200


def test_a_client_that_sends_its_body_slowly_takes_no_place():
    """A request counts from when it is whole."""

    async def scenario() -> None:
        rest = anyio.Event()
        in_flight = InFlight(1)

        async def slow() -> Message:
            await rest.wait()
            return {"type": "http.request", "body": workout(), "more_body": False}

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(JsonBody(InFlightLimit(_never, in_flight)), {"headers": [_TYPE]}, slow, _nothing)
            await anyio.wait_all_tasks_blocked()
            assert in_flight.now == 0
            rest.set()
            await anyio.wait_all_tasks_blocked()
            assert in_flight.now == 1
            tasks.cancel_scope.cancel()

    anyio.run(scenario)


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 400), (MAX_BODY + 1, 413)])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_is_read_up_to_the_limit(service: Service, size: int, status: int, chunked: bool):
    """Whether its length is announced or not."""
    content = iter([b"x" * MAX_BODY, b"x" * (size - MAX_BODY)]) if chunked else b"x" * size
    assert service.client.post("/predict", content=content, headers=JSON).status_code == status


# --- behind a real server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0"])
def test_a_body_behind_an_upgrade_is_answered_with_what_is_wrong(port: tuple[int, Service], protocol: str):
    """Uvicorn gives no body of such a request; Java's client asks for h2c unless it is told not to."""
    more = f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk\r\n"
    answer = exchange(port[0], post(more=more + CLOSE))
    assert answer.startswith(b"HTTP/1.1 400 ")
    problem = json.loads(answer[answer.index(b"{") :])
    assert (problem["type"], protocol in problem["detail"]) == ("urn:calsvc:problem:upgrade-ignored", True)


def test_answers_close_their_connection_while_the_process_drains(port: tuple[int, Service]):
    """So that clients connect elsewhere before the port closes."""
    port[1].lifecycle.drain(patient=True)
    answer = exchange(port[0], post(), post())
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in answer


async def dies(_: Request) -> JSONResponse:
    """Fail with words that quote a record."""
    raise ZeroDivisionError("of weight " + str(70 + 1))


async def current_trace(_: Request) -> JSONResponse:
    """Answer with the trace that is current, and whether it is sampled."""
    context = trace.get_current_span().get_span_context()
    return JSONResponse({"trace_id": f"{context.trace_id:032x}", "sampled": context.trace_flags.sampled})


def observed(exporter: InMemorySpanExporter) -> RequestTelemetry:
    """An application whose spans are kept here."""
    telemetry = Telemetry({}, [SimpleSpanProcessor(exporter)])
    app = Starlette(routes=[Route("/dies", dies), Route("/trace", current_trace)])
    duration = create_histogram(telemetry.registry, REQUEST_DURATION)
    return RequestTelemetry(app, telemetry.tracing, duration, Paths(["/dies", "/trace"]))


def get(path: str, flag: int, more: str = "") -> bytes:
    """A request whose caller has sampled it (1), or not (0)."""
    return f"GET {path} HTTP/1.1\r\nHost: here\r\n{TRACEPARENT}{flag}\r\n{more}\r\n".encode()


@pytest.mark.parametrize("flag", [0, 1])
def test_a_request_that_died_has_one_line_which_names_its_span_and_quotes_no_record(flag: int):
    """The server does not log it a second time, and the client gets a 500."""
    stream, exporter = io.StringIO(), InMemorySpanExporter()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in ("calsvc", "uvicorn"):
        logging.getLogger(name).addHandler(handler)
    try:
        with served(observed(exporter)) as port:
            answer = exchange(port, get("/dies", flag, CLOSE))
    finally:
        for name in ("calsvc", "uvicorn"):
            logging.getLogger(name).removeHandler(handler)
    (span,) = exporter.get_finished_spans()
    (line,) = [json.loads(text) for text in stream.getvalue().splitlines()]
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert (line["event"], line["exception.type"]) == ("calsvc.request.failed", "ZeroDivisionError")
    assert span.context is not None
    assert (line["trace_id"], line["span_id"]) == (TRACEPARENT[16:48], f"{span.context.span_id:016x}")
    assert "weight 71" not in stream.getvalue()


def test_a_request_in_a_pipeline_does_not_run_under_the_span_before_it():
    """The second one is taken up while the first one's span is current, and is not sampled."""
    with served(observed(InMemorySpanExporter())) as port:
        answer = exchange(port, get("/trace", 1) + get("/trace", 0, CLOSE))
    first, second = [json.loads(body) for body in re.findall(rb"\{.*?\}", answer)]
    assert (first["sampled"], second["sampled"]) == (True, False)


_TYPE = (b"content-type", b"application/json")


async def _nothing(*_: object) -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _never(_: Scope, __: Receive, ___: Send) -> None:
    await anyio.sleep_forever()

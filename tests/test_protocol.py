"""What happens on the wire: requests past the limit, clients that go or dawdle, answers that leave together."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from calsvc.admission import Admission, Doorman, is_whole
from calsvc.app import create_app
from calsvc.lifecycle import Lifecycle
from calsvc.loading import open_model_source
from calsvc.outbox import Held, Outbox
from calsvc.server import uvicorn_config
from calsvc.service import Service, create_service
from calsvc.settings import Settings
from calsvc.stay import UNREAD
from observability.histogram import Distribution
from observability.logs import JsonLines
from observability.sampling import Collector
from observability.telemetry import Telemetry
from tests.clock import Clock
from tests.service_process import PATIENCE
from tests.test_schema import WORKOUT, workout


class Gate:
    """A scorer that answers when it is opened."""

    engine = "onnx"

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.waiting = 0
        self.error: Exception | None = None

    async def score(self, _: Any) -> float:
        """Wait, then say 100 kcal, or raise what somebody wants it to."""
        self.waiting += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return 100.0

    async def aclose(self) -> None:
        """Nothing is held."""


class Wire:
    """One connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        with anyio.fail_after(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(status.split()[1]), headers, body


class Running:
    """A service on a real port, whose model answers when the gate opens."""

    def __init__(self, port: int, service: Service, gate: Gate, clock: Clock) -> None:
        self.port = port
        self.service = service
        self.gate = gate
        self.clock = clock
        self.wires: list[Wire] = []

    @property
    def open(self) -> list[Any]:
        """The service's ends of all connections."""
        return list(self.service.connections._open)  # noqa: SLF001 - their states are nobody else's business

    async def connect(self) -> Wire:
        """Open a connection."""
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self.wires.append(wire)
        return wire

    async def at_the_gate(self, requests: int) -> None:
        """Send requests, each on its own connection, and wait until the model is asked for all of them."""
        for _ in range(requests):
            (await self.connect()).send(post())
        await until(lambda: self.gate.waiting == requests)

    def later(self, seconds: float) -> bool:
        """Let time pass by the service's clock."""
        self.clock.now += seconds
        return True

    async def closed(self, reason: str) -> int:
        """How many connections were closed for a reason, by a scrape."""
        text = (await self.get("/metrics"))[2].decode()
        (line,) = [line for line in text.splitlines() if f'connections_closed_total{{reason="{reason}"}}' in line]
        return int(float(line.split()[1]))

    async def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """GET on a connection of its own."""
        wire = await self.connect()
        wire.send(f"GET {path} HTTP/1.1\r\nHost: calsvc\r\n\r\n".encode())
        return await wire.answer()


def post(body: bytes | None = None, path: str = "/predict", more: str = "") -> bytes:
    """One request as it comes over the wire."""
    body = workout() if body is None else body
    head = f"POST {path} HTTP/1.1\r\nHost: calsvc\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def until(condition: Callable[[], bool]) -> None:
    """Let others work until something is so."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody would set an event
            await anyio.sleep(0.001)


@asynccontextmanager
async def running(bundle: Path, limit: int, **settings: Any) -> AsyncIterator[Running]:
    """Serve with room for `limit` requests, and spans that nobody takes."""
    lifecycle = Lifecycle()
    telemetry = Telemetry({"service.name": "test"}, Collector("http://127.0.0.1:9/v1/traces", {}, timeout=0.1))
    clock = Clock()
    described = Settings(model=bundle, store="memory://", max_in_flight=limit, **settings)
    service = create_service(described, telemetry, lifecycle, clock)
    server = uvicorn.Server(uvicorn_config(create_app(service, open_model_source(service))))
    listener = socket.create_server(("127.0.0.1", 0))
    gate = Gate()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server._serve, [listener])  # noqa: SLF001 - `serve` would take the signals of the test run
        with anyio.fail_after(PATIENCE):
            await lifecycle.wait_ready()
        model = service.serving_model()
        model._scorer = gate  # noqa: SLF001 - the bundle is real, only its answers can be held back
        running = Running(listener.getsockname()[1], service, gate, clock)
        try:
            yield running
        finally:
            gate.open.set()
            for wire in running.wires:
                wire.writer.close()
            server.should_exit = True
    telemetry.shutdown()


def scenario(bundle: Path, limit: int, play: Callable[[Running], Awaitable[None]], **settings: Any) -> None:
    """Play against a service with room for `limit` requests."""

    async def run() -> None:
        async with running(bundle, limit, **settings) as service:
            await play(service)

    anyio.run(run)


def answers_with(text: str, status: str) -> float:
    """How many requests to /predict were answered with a status, by a scrape."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "http_server_request_duration_seconds_count":
                labels = sample.labels
                if (labels["http_route"], labels["http_response_status_code"]) == ("/predict", status):
                    return sample.value
    return 0.0


def test_past_the_limit_requests_are_refused_at_once_and_those_who_wait_are_answered(bundle: Path):
    """503 with Retry-After, while probes and scrapes answer; only what was predicted is counted as predicted."""

    async def play(service: Running) -> None:
        await service.at_the_gate(2)
        third = await service.connect()
        third.send(post())
        status, headers, body = await third.answer()
        assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/problem+json")
        assert json.loads(body)["type"] == "urn:calsvc:problem:overloaded"
        assert (await service.get("/readyz"))[0] == 200
        service.gate.open.set()
        assert [(await wire.answer())[0] for wire in service.wires[:2]] == [200, 200]
        text = (await service.get("/metrics"))[2].decode()
        assert (answers_with(text, "200"), answers_with(text, "503")) == (2, 1)
        assert service.service.admission.in_flight == 0

    scenario(bundle, 2, play)


def test_who_was_refused_is_heard_again_on_the_same_connection(bundle: Path):
    """The connection stays, and its next request is answered when there is room."""

    async def play(service: Running) -> None:
        await service.at_the_gate(1)
        refused = await service.connect()
        refused.send(post())
        assert (await refused.answer())[0] == 503
        service.gate.open.set()
        await service.wires[0].answer()
        refused.send(post())
        assert (await refused.answer())[0] == 200

    scenario(bundle, 1, play)


@pytest.mark.parametrize("cut", [10, 60, -5])
def test_a_request_that_comes_in_pieces_is_refused_too(bundle: Path, cut: int):
    """Where the segments end is chance."""

    async def play(service: Running) -> None:
        await service.at_the_gate(1)
        slow = await service.connect()
        request = post()
        slow.send(request[:cut])
        await slow.writer.drain()
        await anyio.sleep(0.02)
        slow.send(request[cut:])
        status, headers, _ = await slow.answer()
        assert (status, headers["retry-after"]) == (503, "1")

    scenario(bundle, 1, play)


def test_a_client_that_goes_makes_room(bundle: Path):
    """Nobody waits for its answer any more."""

    async def play(service: Running) -> None:
        await service.at_the_gate(1)
        service.wires[0].writer.close()
        await until(lambda: service.service.admission.in_flight == 0)
        service.gate.open.set()
        another = await service.connect()
        another.send(post())
        assert (await another.answer())[0] == 200

    scenario(bundle, 1, play)


def test_a_client_that_dawdles_takes_nobody_s_place(bundle: Path):
    """A head whose body does not come is no request yet."""

    async def play(service: Running) -> None:
        service.gate.open.set()
        for _ in range(3):
            dawdling = await service.connect()
            dawdling.send(post()[:-1])
        whole = await service.connect()
        whole.send(post())
        assert (await whole.answer())[0] == 200

    scenario(bundle, 1, play)


def test_requests_that_come_in_one_segment_are_answered_in_their_order(bundle: Path):
    """HTTP/1.1 pipelining."""

    async def play(service: Running) -> None:
        service.gate.open.set()
        wire = await service.connect()
        wire.send(b"".join(post(workout(id=number)) for number in range(3)))
        assert [json.loads((await wire.answer())[2])["id"] for _ in range(3)] == [0, 1, 2]
        assert service.service.admission.in_flight == 0

    scenario(bundle, 8, play)


def test_a_request_behind_another_is_not_taken_for_a_part_of_it(bundle: Path):
    """Pipelined behind a traced one, of a client that wants no trace: its problem names no trace, nor the other's."""
    caller = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"

    async def play(service: Running) -> None:
        service.gate.open.set()
        wire = await service.connect()
        wire.send(post(more=caller) + post(b"{", more=caller.replace("0af7", "ffff").replace("-01", "-00")))
        assert (await wire.answer())[0] == 200
        status, _, body = await wire.answer()
        assert (status, json.loads(body)["trace_id"]) == (400, "ffff651916cd43dd8448eb211c80319c")

    scenario(bundle, 4, play)


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_mistake_of_the_service_leaves_one_line(bundle: Path, flags: str, caplog: pytest.LogCaptureFixture):
    """With the traceback and the trace that the client is told of, drawn or not, and the connection lives on."""
    caller = f"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}\r\n"

    async def play(service: Running) -> None:
        service.gate.open.set()
        service.gate.error = ZeroDivisionError("what nobody expected")
        wire = await service.connect()
        wire.send(post(more=caller))
        status, _, body = await wire.answer()
        assert (status, json.loads(body)["trace_id"]) == (500, "0af7651916cd43dd8448eb211c80319c")
        service.gate.error = None
        wire.send(post())
        assert (await wire.answer())[0] == 200

    scenario(bundle, 4, play)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    (line,) = [line for line in lines if line["level"] == "error"]
    assert line["exception.type"] == "ZeroDivisionError"
    assert "what nobody expected" not in json.dumps(line)  # it might have quoted the record
    assert (line["trace_id"], len(line["span_id"])) == ("0af7651916cd43dd8448eb211c80319c", 16)
    assert (line["http.route"], line["http.response.status_code"]) == ("/predict", 500)


@pytest.mark.parametrize("request_line", ["GET /predict HTTP/1.1", "POST /nowhere HTTP/1.1", "HEAD /livez HTTP/1.1"])
def test_only_the_calls_that_carry_the_load_are_refused(bundle: Path, request_line: str):
    """Everything else is cheap."""

    async def play(service: Running) -> None:
        await service.at_the_gate(1)
        wire = await service.connect()
        wire.send(f"{request_line}\r\nHost: calsvc\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        with anyio.fail_after(PATIENCE):
            status = (await wire.reader.read()).split()[1]
        assert status in {b"405", b"404", b"200"}

    scenario(bundle, 1, play)


def test_http_1_0_gets_its_whole_answer_before_the_connection_closes(bundle: Path):
    """What is held is sent first."""

    async def play(service: Running) -> None:
        service.gate.open.set()
        wire = await service.connect()
        wire.send(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
        with anyio.fail_after(PATIENCE):
            everything = await wire.reader.read()
        assert msgspec.json.decode(everything.partition(b"\r\n\r\n")[2]) == {"id": WORKOUT["id"], "Calories": 100.0}

    scenario(bundle, 1, play)


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (post(), True),
        (post(b""), True),
        (post()[:-1], False),
        (post() + b"G", False),
        (post()[:40], False),
        (post(more="Connection: close\r\n"), False),
        (post(more="Connection: Keep-Alive\r\n"), True),
        (post(more="Expect: 100-continue\r\n"), False),
        (post().replace(b"Content-Length: ", b"Transfer-Encoding: chunked\r\nX: "), False),
        (post().replace(b"Content-Length: ", b"content-length:"), True),
        (post().replace(b"Content-Length: ", b"Content-Length: -"), False),
        (b"", False),
    ],
)
def test_only_one_whole_request_is_refused_unparsed(data: bytes, whole: bool):
    """Whatever is not plainly one request goes through the parser."""
    assert is_whole(data) is whole
    doorman = Doorman(Admission(limit=0), b"no", {"/predict": Distribution([1.0])})
    assert doorman.refuses(data) is whole


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written.append(data)

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


def test_what_is_written_in_one_round_leaves_in_one_piece():
    """Head and body together, and nothing is held over to a later round."""

    async def play() -> None:
        transport = Transport()
        held = Held(transport, Outbox(), asyncio.get_running_loop())  # type: ignore[arg-type]
        held.write(b"head ")
        held.write(b"body")
        assert transport.written == []
        await asyncio.sleep(0)
        assert transport.written == [b"head body"]
        held.write(b"last")
        held.close()
        assert (transport.written, transport.closed) == ([b"head body", b"last"], True)
        held.write(b"nobody hears this")
        await asyncio.sleep(0)
        assert transport.written == [b"head body", b"last"]

    asyncio.run(play())


def test_a_client_that_does_not_read_is_dropped(bundle: Path):
    """Its connection is reset, nothing is held for it any longer, and its request counts as gone."""

    async def play(service: Running) -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as deaf:
            deaf.setblocking(False)
            ask = b"GET /openapi.json HTTP/1.1\r\nHost: calsvc\r\n\r\n" * 1000  # more than the kernel keeps
            await until(lambda: service.later(UNREAD) and reset(deaf, ask))
        await until(lambda: service.service.admission.in_flight == 0)

    scenario(bundle, 8, play)


def reset(client: socket.socket, ask: bytes) -> bool:
    """Whether the service has closed a client's connection; while it has not, the client asks for more."""
    try:
        client.send(ask)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return False

"""The proxy of deploy/proxy keeps the bounds that uvicorn does not have, and forwards nothing but whole requests."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import pytest

from streamsim.compare import total
from streamsim.service_view import read_metrics
from tests.conftest import Workshop
from tests.http.test_schema import workout
from tests.live.fleet import Proxy, Replica, running
from tests.live.recorder import Got, Recorder, recorder
from tests.live.wire_cases import CASES, H2C, Case
from tests.needs import needs
from tests.service_process import PATIENCE

pytestmark = needs("haproxy")

SHORT: Final = {
    "CALSVC_PROXY_REQUEST_TIMEOUT": "1s",
    "CALSVC_PROXY_IDLE_TIMEOUT": "1s",
    "CALSVC_PROXY_CLIENT_TIMEOUT": "1s",
    "CALSVC_PROXY_CONNECTIONS": "40",
    "CALSVC_PROXY_CONNECTIONS_PER_SOURCE": "15",
}
BODY: Final = workout(id="behind the proxy")
HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WHOLE: Final = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
Address = tuple[str, int]


class Behind(NamedTuple):
    """A proxy with short timeouts, and how many predictions the service behind it was asked for."""

    proxy: Proxy
    asked: Callable[[], float]

    @property
    def address(self) -> Address:
        """Where the proxy listens."""
        parts = urlsplit(self.proxy.url)
        return parts.hostname or "", parts.port or 0


@pytest.fixture(scope="module", params=["stock uvicorn", "calsvc"])
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """The proxy in front of a recorder, and in front of the service."""
    folder = tmp_path_factory.mktemp("proxy")
    with ExitStack() as stack:
        if request.param == "calsvc":
            workshop: Workshop = request.getfixturevalue("workshop")
            service = stack.enter_context(running(Replica(folder, workshop.environ() | {"CALSVC_STORE": "memory://"})))
            url, asked = service.url, lambda: predictions(service.url)
        else:
            recording = stack.enter_context(recorder())
            url, asked = recording.url, lambda: len(recording.got)
        yield Behind(stack.enter_context(running(Proxy(folder, [url], SHORT))), asked)


def predictions(url: str) -> float:
    """How many requests for a prediction a service has answered, whatever the answer."""
    labels = {"http_route": "/predict"}
    return total(read_metrics(url), "http_server_request_duration_seconds_count", labels) or 0


@contextmanager
def connected(address: Address, sent: bytes = b"", source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Open a connection from an address of the loopback interface, and send something."""
    with socket.create_connection(address, PATIENCE, source_address=(source, 0)) as opened:
        opened.sendall(sent)
        yield opened


def until_end(opened: socket.socket) -> bytes:
    """Read until the other side has closed."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := opened.recv(2**16):
            answer += part
    return answer


def status(address: Address, sent: bytes = WHOLE, source: str = "127.0.0.1") -> int:
    """Send a request on a connection of its own and return the status of its answer, 0 without one."""
    try:
        with connected(address, sent, source) as opened:
            return int((opened.recv(2**16).split(maxsplit=2) or [b"", b"0"])[1])
    except (ConnectionResetError, BrokenPipeError):
        return 0


@contextmanager
def dripping(opened: socket.socket, drop: bytes) -> Iterator[None]:
    """Send some bytes again and again, until the connection ends or the block does."""
    over = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.1):
                opened.sendall(drop)

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


UNFINISHED: Final = {
    "nothing": (b"", b""),
    "half a head": (HEAD, b""),
    "a head that comes in drops": (HEAD + b"X: ", b"y"),
    "no body": (HEAD + b"Content-Length: 40000\r\n\r\n", b""),
    "a body that comes in drops": (HEAD + b"Content-Length: 40000\r\n\r\n" + b"x" * 30_000, b"y"),
    "chunks that come in drops": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
}


@pytest.mark.parametrize("kind", UNFINISHED)
def test_a_request_that_does_not_arrive_in_time_is_408_and_reaches_no_replica(behind: Behind, kind: str):
    """Whether its client is silent or slow; meanwhile others are answered."""
    begun, drop = UNFINISHED[kind]
    assert status(behind.address) == 200
    before = behind.asked()
    with connected(behind.address, begun) as opened, dripping(opened, drop):
        assert until_end(opened).startswith(b"HTTP/1.1 408 ")
    assert behind.asked() == before
    assert status(behind.address) == 200


def test_an_idle_connection_is_closed(behind: Behind):
    """After its answer and the idle timeout, without another word."""
    with connected(behind.address, WHOLE) as opened:
        answer = until_end(opened)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1") == 1


TOO_LARGE: Final = {
    "a field of 20 kB": (HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\n", 431),
    "a field of 200 kB": (HEAD + b"X: " + b"y" * 200_000 + b"\r\n\r\n", 400),
    "a target of 200 kB": (b"GET /" + b"y" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "120 fields": (HEAD + b"X: y\r\n" * 120 + b"\r\n", 400),
    "a body that says it is": (HEAD + b"Content-Length: 65537\r\n\r\n", 413),
    "a body in chunks": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 17,
        413,
    ),
    "an unknown method": (b"BREW /predict HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
}


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_what_is_too_large_or_unknown_is_refused_and_reaches_no_replica(behind: Behind, kind: str):
    """Before it has arrived as a whole, where it says so."""
    sent, expected = TOO_LARGE[kind]
    before = behind.asked()
    assert status(behind.address, sent) == expected
    assert behind.asked() == before


def test_64_kib_behind_a_head_of_15_kib_arrive(behind: Behind):
    """The largest request is buffered as a whole."""
    before = behind.asked()
    body = b" " * (65_536 - len(BODY)) + BODY
    head = HEAD + b"X: " + b"y" * 15_000 + b"\r\nContent-Length: 65536\r\n\r\n"
    assert status(behind.address, head + body) == 200
    assert wait_for(lambda: behind.asked() == before + 1)


def test_a_body_behind_upgrade_h2c_arrives(behind: Behind):
    """Java's HTTP client sends that header by default."""
    assert status(behind.address, WHOLE.replace(b"Host: x\r\n", b"Host: x\r\n" + H2C)) == 200


def test_a_crowd_of_one_address_leaves_room_for_others(behind: Behind):
    """More connections than an address may have are closed at once; another address is served."""
    with ExitStack() as stack:
        for _ in range(60):
            with contextlib.suppress(ConnectionResetError):
                stack.enter_context(connected(behind.address))
        assert status(behind.address, source="127.0.0.2") == 200
        assert wait_for(lambda: sessions(behind) <= 15), "those that are refused are counted for a moment"
    assert wait_for(lambda: status(behind.address) == 200)


def test_a_crowd_of_many_addresses_takes_no_more_than_all_may_have(behind: Behind):
    """Who comes then waits, and is served when the silent ones are sent away."""
    with ExitStack() as stack:
        for number in range(60):
            stack.enter_context(connected(behind.address, source=f"127.0.0.{10 + number % 6}"))
        assert wait_for(lambda: sessions(behind) <= 40)
        assert status(behind.address, source="127.0.0.2") == 200


def sessions(behind: Behind) -> float:
    """Connections that the proxy has for clients."""
    return total(behind.proxy.metrics(), "haproxy_frontend_current_sessions", {"proxy": "calls"})


def wait_for(holds: Callable[[], bool]) -> bool:
    """Ask again and again; return whether it came true."""
    until = time.monotonic() + PATIENCE
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.05)
    return held


# --- what only a recorder shows ---------------------------------------------------------------------------------------


@pytest.fixture
def recording() -> Iterator[Recorder]:
    """A recorder of its own."""
    with recorder() as found:
        yield found


@pytest.fixture
def proxied(recording: Recorder, tmp_path: Path) -> Iterator[Behind]:
    """The proxy in front of it."""
    with running(Proxy(tmp_path, [recording.url], SHORT)) as proxy:
        yield Behind(proxy, lambda: len(recording.got))


def test_a_replica_is_asked_for_no_upgrade(proxied: Behind):
    """The fields that ask for one are removed, with and without a body."""
    with connected(proxied.address, b"GET /fields HTTP/1.1\r\nHost: x\r\n" + H2C + b"\r\n") as opened:
        fields = json.loads(until_end(opened).partition(b"\r\n\r\n")[2])
    assert fields == ["host"]


def test_a_client_that_reads_nothing_is_dropped(recording: Recorder, proxied: Behind):
    """After the client timeout; then the replica's answer ends, too."""
    with connected(proxied.address, b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert wait_for(lambda: len(recording.got) == 2)
    assert recording.got == [Got("GET", "/endless", b""), Got("", "/endless", b"ended")]


def test_a_stream_of_events_outlives_the_client_timeout(proxied: Behind):
    """A page reads and says nothing: its connection stays."""
    with connected(proxied.address, b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as opened:
        assert until_end(opened).count(b"data: ") == 15


@contextmanager
def breaking_off() -> Iterator[Recorder]:
    """A replica that reads a request and closes the connection without an answer; health checks it answers."""
    got: list[Got] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, _ = head.decode().split(maxsplit=2)
        if path == "/readyz":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            got.append(Got(method, path, await reader.readexactly(len(BODY)) if method == "POST" else b""))
        writer.close()

    async def serve(started: threading.Event, over: asyncio.Event) -> None:
        loops.append((asyncio.get_running_loop(), over))
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await over.wait()
        server.close()

    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    ports: list[int] = []
    started = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(started, asyncio.Event())))
    thread.start()
    started.wait(PATIENCE)
    try:
        yield Recorder(f"http://127.0.0.1:{ports[0]}", got)
    finally:
        loop, over = loops[0]
        loop.call_soon_threadsafe(over.set)
        thread.join()


def test_a_request_that_was_delivered_is_not_sent_again(recording: Recorder, tmp_path: Path):
    """A replica that breaks off may have counted it: the client gets 502, no other replica gets the request."""
    with breaking_off() as broken, running(Proxy(tmp_path, [broken.url, recording.url], SHORT)) as proxy:
        address = Behind(proxy, lambda: 0).address
        statuses = [status(address) for _ in range(6)]
    assert statuses.count(502) == len(broken.got) > 0
    assert statuses.count(200) == len(recording.got) > 0
    assert len(statuses) == len(broken.got) + len(recording.got)


def test_without_a_replica_the_answer_is_a_problem_with_retry_after(tmp_path: Path):
    """503 in the form of RFC 9457."""
    with ExitStack() as stack:
        with recorder() as gone:
            proxy = stack.enter_context(running(Proxy(tmp_path, [gone.url], SHORT)))
        address = Behind(proxy, lambda: 0).address
        assert wait_for(lambda: status(address) == 503)
        with connected(address, WHOLE) as opened:
            head, _, body = until_end(opened).partition(b"\r\n\r\n")
    assert {b"retry-after: 1", b"content-type: application/problem+json"} <= set(head.lower().split(b"\r\n"))
    assert json.loads(body) == {"type": "about:blank", "title": "Service Unavailable", "status": 503}


# --- bytes ------------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What each case came to, and how many requests the proxy says that it has forwarded."""

    got: Sequence[Got]
    answers: Mapping[str, bytes]
    forwarded: float


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All cases at the same time, so that one that shifts a connection to the replica shows in others."""

    async def send(address: Address, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(sent)
            return await asyncio.wait_for(reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def send_all(address: Address) -> list[bytes]:
        return await asyncio.gather(*(send(address, numbered(each.sent, name)) for name, each in CASES.items()))

    roomy = SHORT | {"CALSVC_PROXY_CONNECTIONS": "400", "CALSVC_PROXY_CONNECTIONS_PER_SOURCE": "200"}
    with recorder() as found, running(Proxy(tmp_path_factory.mktemp("cases"), [found.url], roomy)) as proxy:
        before = forwarded(proxy)
        answers = asyncio.run(send_all(Behind(proxy, lambda: 0).address))
        return Outcome(list(found.got), dict(zip(CASES, answers, strict=True)), forwarded(proxy) - before)


def numbered(text: bytes, name: str) -> bytes:
    """Put the number of the case in place of NAME."""
    return text.replace(b"NAME", b"%04d" % list(CASES).index(name))


def forwarded(proxy: Proxy) -> float:
    """How many requests the proxy says that it has sent to its replicas."""
    return total(proxy.metrics(), "haproxy_server_http_responses_total", {"proxy": "replicas"}) or 0


def of_case(name: str, outcome: Outcome) -> list[Got]:
    """What the replica got of one case."""
    number = f"/{list(CASES).index(name):04d}/"
    return [each for each in outcome.got if each.path.startswith(number)]


@pytest.mark.parametrize("name", CASES)
def test_a_replica_gets_what_a_compliant_parser_finds(outcome: Outcome, name: str):
    """Those requests, in that order and with those bodies, or some of them; all where the bytes are well-formed."""
    case: Case = CASES[name]
    may = [
        Got(each.method, numbered(each.path.encode(), name).decode(), numbered(each.body, name)) for each in case.may
    ]
    got = of_case(name, outcome)
    expected = may if case.must else [each for each in may if each in got]
    assert got == expected, outcome.answers[name][:500]


def test_a_replica_gets_as_many_requests_as_the_proxy_has_forwarded(outcome: Outcome):
    """None was made of another, and each is of a case; uvicorn refuses a few that the proxy lets through."""
    refused = sum(answer.count(b"Invalid HTTP request received.") for answer in outcome.answers.values())
    assert outcome.forwarded == len(outcome.got) + refused
    assert len(outcome.got) == sum(len(of_case(name, outcome)) for name in CASES)

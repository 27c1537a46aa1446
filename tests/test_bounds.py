"""What a client may send, hold back, or leave unread: each has a bound, and behind it a sensible answer."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from calsvc.stay import KEEP_ALIVE, LINGER, SLOWEST
from tests.service_process import PATIENCE
from tests.test_protocol import Running, Wire, post, scenario, until
from tests.test_schema import workout

pytestmark = pytest.mark.slow

HOST = b"Host: calsvc\r\n"
CHUNKED = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n"
DRIPPING = post()[:-1]


def get(path: str, more: bytes = b"", method: bytes = b"GET") -> bytes:
    """A request without a body."""
    return method + b" %b HTTP/1.1\r\n" % path.encode() + HOST + more + b"\r\n"


def fields(count: int) -> bytes:
    """Many header fields."""
    return b"".join(b"X-%d: 1\r\n" % number for number in range(count))


BAD = {
    "no words": (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    "an unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/2.0": (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", 400),
    "no Host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (get("/livez", b"Host: other\r\n"), 400),
    "a lone LF": (b"GET /livez HTTP/1.1\nHost: calsvc\n\n", 400),
    "a lone CR": (get("/livez", b"X: a\rY: b\r\n"), 400),
    "a folded field": (get("/livez", b"X: a\r\n b\r\n"), 400),
    "NUL in a field": (get("/livez", b"X: a\0b\r\n"), 400),
    "a field without a name": (get("/livez", b": b\r\n"), 400),
    "a blank before the colon": (get("/livez", b"X : b\r\n"), 400),
    "both lengths": (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n") + b"0\r\n\r\n", 400),
    "two lengths": (post(more="Content-Length: 3\r\n"), 400),
    "a list of lengths": (post().replace(b"Content-Length: ", b"Content-Length: 1, "), 400),
    "a negative length": (post().replace(b"Content-Length: ", b"Content-Length: -"), 400),
    "an endless length": (post().replace(b"Content-Length: ", b"Content-Length: " + b"9" * 30), 400),
    "an unknown coding": (CHUNKED.replace(b"chunked", b"xchunked") + b"0\r\n\r\n", 400),
    "chunked, then another": (CHUNKED.replace(b"chunked", b"chunked, identity") + b"0\r\n\r\n", 400),
    "a chunk without end": (CHUNKED + b"f" * 20 + b"\r\n", 400),
    "a chunk without a length": (CHUNKED + b"x\r\n", 400),
    "another protocol behind a body": (post(more="Connection: Upgrade\r\nUpgrade: h2c\r\n"), 400),
    "CONNECT": (b"CONNECT calsvc:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a path that is not ASCII": (b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a port that is none": (get("http://calsvc:99999/livez"), 400),
    "a long target": (get("/" + "x" * 8192), 414),
    "a target without end": (b"GET /" + b"x" * 8192, 414),
    "many fields": (get("/livez", fields(101)), 431),
    "a large head": (get("/livez", b"X: " + b"x" * 16384 + b"\r\n"), 431),
    "a large head of small fields": (
        get("/livez", b"".join(b"X-%d: %b\r\n" % (n, b"x" * 200) for n in range(90))),
        431,
    ),
    "a field without end": (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 20000, 431),
    "trailers without end": (CHUNKED + b"0\r\n" + b"T: %b\r\n" % (b"x" * 1000) * 1200, 413),
    "a chunk extension without end": (CHUNKED + b"1;" + b"x" * (2**20 + 8192), 413),
}


async def everything(wire: Wire) -> bytes:
    """All that comes until the service hangs up; then its client does, too."""
    with anyio.fail_after(PATIENCE):
        received = await wire.reader.read()
    wire.writer.close()
    return received


def problem_in(answer: bytes) -> tuple[int, dict[str, object]]:
    """Status and problem of an answer that is the last one on its connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    assert {"type", "title", "status", "detail"} <= problem.keys()
    return int(head.split()[1]), problem


@pytest.mark.parametrize("size", [2**20, 7])
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_request_is_answered_with_a_problem_and_the_connection_closes(bundle: Path, case: str, size: int):
    """However its bytes come, and the next client is served."""
    sent, status = BAD[case]
    if size < len(sent) > 20000:
        size = len(sent) // 500

    async def play(service: Running) -> None:
        service.gate.open.set()
        wire = await service.connect()
        for piece in pieces(sent, size):
            wire.send(piece)
            await wire.writer.drain()
        answered, problem = problem_in(await everything(wire))
        assert (answered, problem["status"]) == (status, status)
        assert len(str(problem["detail"])) < 200
        assert (await service.get("/livez"))[0] == 200
        assert await service.closed("malformed") == 1
        assert service.service.admission.in_flight == 0

    scenario(bundle, 8, play)


def pieces(sent: bytes, size: int) -> Iterator[bytes]:
    """Cut bytes."""
    return (sent[at : at + size] for at in range(0, len(sent), size))


ODD = {
    "websocket": (get("/livez", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"), 200),
    "h2c": (get("/livez", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"), 200),
    "absolute": (get("http://calsvc/livez"), 200),
    "absolute, without a path": (get("http://calsvc", method=b"DELETE"), 405),
    "asterisk": (get("*", method=b"OPTIONS"), 404),
    "TRACE": (get("/predict", method=b"TRACE"), 405),
    "blank lines first": (b"\r\n\r\n" + get("/livez"), 200),
    "a host that is none": (b"GET /no HTTP/1.1\r\nHost: [:/@\r\n\r\n", 404),
    "an empty host": (b"GET /no HTTP/1.1\r\nHost:\r\n\r\n", 404),
    "bytes that are no text": (get("/no", b"X: \xff\xfe\r\n"), 404),
    "chunks with extensions and trailers": (
        CHUNKED + b"%x;a=b\r\n%b\r\n0\r\nTrailer: 1\r\n\r\n" % (len(workout()), workout()),
        200,
    ),
    "a hundred fields": (get("/livez", fields(99)), 200),
    "a long target": (get("/no?" + "x" * 8000), 404),
    "a path of escapes": (get("/%00%ff%0a" + "%c3%a4" * 1000), 404),
}


@pytest.mark.parametrize("size", [2**20, 3])
@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_but_a_request_is_answered_and_the_connection_goes_on(bundle: Path, case: str, size: int):
    """Nobody is switched to another protocol, and the next request on the same connection is answered."""
    sent, status = ODD[case]

    async def play(service: Running) -> None:
        service.gate.open.set()
        wire = await service.connect()
        for piece in pieces(sent + get("/readyz"), size):
            wire.send(piece)
            await wire.writer.drain()
        answered, _, body = await wire.answer()
        assert (answered, len(body) < 1000) == (status, True)
        assert (await wire.answer())[0] == 200

    scenario(bundle, 8, play)


def test_a_body_is_asked_for_where_its_client_waits_for_that(bundle: Path):
    """Expect: 100-continue, and nothing of the kind where the answer is clear before the body."""

    async def play(service: Running) -> None:
        service.gate.open.set()
        head, body = post(more="Expect: 100-continue\r\n").split(b"\r\n\r\n")
        wire = await service.connect()
        wire.send(head + b"\r\n\r\n")
        with anyio.fail_after(PATIENCE):
            assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(body)
        assert (await wire.answer())[0] == 200
        wire.send(head.replace(b"application/json", b"text/plain") + b"\r\n\r\n")
        assert problem_in(await everything(wire))[0] == 415

    scenario(bundle, 8, play)


def test_an_answer_before_the_end_of_its_request_is_the_last_one(bundle: Path):
    """It says so, can be read to its end, and the request counts as gone although its body came afterwards."""

    async def play(service: Running) -> None:
        wire = await service.connect()
        head, body = post().replace(b"application/json", b"text/plain").split(b"\r\n\r\n")
        wire.send(head + b"\r\n\r\n")
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (415, "close")
        wire.send(body + post())
        assert await everything(wire) == b""
        assert service.service.admission.in_flight == 0
        assert await service.closed("unfinished") == 1

    scenario(bundle, 8, play)


@pytest.mark.parametrize("head", [post(path="/nowhere"), post().replace(b"json", b"xml"), CHUNKED], ids=str)
def test_a_body_without_end_is_cut_off(bundle: Path, head: bytes):
    """After a bounded number of bytes that nobody parses; its client could have read the answer."""

    async def play(service: Running) -> None:
        wire = await service.connect()
        wire.send(head.split(b"\r\n\r\n")[0].replace(b"Content-Length: ", b"Content-Length: 9999999") + b"\r\n\r\n")
        flood = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with pytest.raises(ConnectionError):
            await send_without_end(wire, flood)
        await until(lambda: len(service.service.connections) == 0)
        assert service.service.admission.in_flight == 0

    scenario(bundle, 8, play)


@pytest.mark.parametrize(
    "part", [b"G", get("/livez")[:-2], DRIPPING, CHUNKED + b"1\r\n"], ids=["letter", "head", "body", "chunk"]
)
def test_a_request_that_does_not_end_is_given_up(bundle: Path, part: bytes):
    """408, whatever drips in meanwhile; before its time it may still be finished."""

    async def play(service: Running) -> None:
        service.gate.open.set()
        slow, slower = await service.connect(), await service.connect()
        slower.send(post()[:-1])
        slow.send(part)
        await until(lambda: all(each.stay.begun is not None for each in service.open) and len(service.open) == 2)
        service.later(SLOWEST - 1)
        await swept(service)
        slower.send(post()[-1:])
        assert (await slower.answer())[0] == 200
        service.later(2)
        assert problem_in(await everything(slow))[0] == 408
        assert await service.closed("slow") == 1

    scenario(bundle, 8, play)


async def send_without_end(wire: Wire, data: bytes) -> None:
    """Send the same again and again."""
    with anyio.fail_after(PATIENCE):
        while True:
            wire.send(data)
            await wire.writer.drain()


async def swept(service: Running) -> None:
    """Wait until the service has looked at its connections."""
    await until(lambda: service.service.connections.now == service.clock.now)


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", get("/livez")], ids=["nothing", "blank lines", "a request"])
def test_an_idle_connection_is_closed(bundle: Path, sent: bytes):
    """Without a word, whether it was ever used or not."""

    async def play(service: Running) -> None:
        wire = await service.connect()
        wire.send(sent)
        if sent.startswith(b"GET"):
            assert (await wire.answer())[0] == 200
        await until(lambda: len(service.open) == 1)
        service.later(KEEP_ALIVE - 1)
        await swept(service)
        assert len(service.open) == 1
        service.later(2)
        assert await everything(wire) == b""
        assert await service.closed("idle") == 1

    scenario(bundle, 8, play)


def test_a_connection_that_cannot_be_closed_is_reset(bundle: Path):
    """Its last answer stays unread, too little of it for the kernel to complain."""

    async def play(service: Running) -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            deaf.sendall(get("/static/uPlot.iife.min.js") * 100 + get("/livez", b"Connection: close\r\n"))
            await until(lambda: len(service.open) == 1 and service.open[0].stay.unread is not None)
            deaf.recv(1)
            service.later(KEEP_ALIVE)
            await until(lambda: not service.open or not service.later(LINGER + 1))

    scenario(bundle, 8, play)


def test_requests_without_number_in_one_go_are_answered_a_few_at_a_time(bundle: Path):
    """In order and all of them, and most of them wait as bytes."""

    async def play(service: Running) -> None:
        wire = await service.connect()
        wire.send(get("/livez") * 5000)
        most = 0
        for _ in range(5000):
            assert (await wire.answer())[0] == 200
            most = max(most, service.service.admission.in_flight)
        assert most < 80

    scenario(bundle, 8, play)


def test_who_does_not_read_takes_nobody_s_place(bundle: Path):
    """A client whose answers pile up is waited for, by itself."""

    async def play(service: Running) -> None:
        service.gate.open.set()
        with socket.create_connection(("127.0.0.1", service.port)) as deaf:
            deaf.sendall(get("/static/uPlot.iife.min.js") * 200)
            await until(lambda: len(service.open) == 1 and service.open[0].stay.unread is not None)
            wire = await service.connect()
            wire.send(post())
            assert (await wire.answer())[0] == 200

    scenario(bundle, 1, play)


def test_what_is_right_before_something_wrong_is_answered_first(bundle: Path):
    """The last answer is the one to what was no request."""

    async def play(service: Running) -> None:
        wire = await service.connect()
        wire.send(post(workout(id=1)) + post(workout(id=2)) + b"what is this\r\n\r\n")
        await until(lambda: service.gate.waiting == 1)
        service.gate.open.set()
        assert [json.loads((await wire.answer())[2])["id"] for _ in range(2)] == [1, 2]
        assert problem_in(await everything(wire))[0] == 400

    scenario(bundle, 8, play)


def test_what_is_right_before_a_body_that_is_wrong_is_answered_first(bundle: Path):
    """The request with the wrong body had begun to wait for its turn."""

    async def play(service: Running) -> None:
        wire = await service.connect()
        wire.send(post(workout(id=1)) + CHUNKED + b"x\r\n")
        await until(lambda: service.gate.waiting == 1)
        service.gate.open.set()
        assert json.loads((await wire.answer())[2])["id"] == 1
        assert problem_in(await everything(wire))[0] == 400
        assert service.service.admission.in_flight == 0

    scenario(bundle, 8, play)


def test_who_leaves_with_requests_behind_a_stream_leaves_no_stream(bundle: Path):
    """The answer that is under way learns of it, and not only the last one."""

    async def play(service: Running) -> None:
        for _ in range(3):
            wire = await service.connect()
            wire.send(get("/events") + get("/livez"))
            with anyio.fail_after(PATIENCE):
                await wire.reader.readuntil(b"retry: 2000\n")
            wire.writer.close()
            await until(lambda: not service.open)
        last = await service.connect()
        last.send(get("/events"))
        with anyio.fail_after(PATIENCE):
            assert (await last.reader.readline()).split()[1] == b"200"

    scenario(bundle, 8, play, max_connections=4)


def test_an_answer_without_a_length_ends_with_the_connection_for_old_clients(bundle: Path):
    """HTTP/1.0 knows no chunks."""

    async def play(service: Running) -> None:
        wire = await service.connect()
        wire.send(b"GET /events HTTP/1.0\r\n\r\n")
        with anyio.fail_after(PATIENCE):
            head = await wire.reader.readuntil(b"\r\n\r\n")
            assert await wire.reader.readuntil(b"\n") == b"retry: 2000\n"
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head

    scenario(bundle, 8, play)

"""What nobody would send: by the service's own document, and byte by byte. The process lives, and others are served."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Workshop
from tests.examples import few, searching
from tests.http.test_schema import WORKOUT, workout
from tests.http.wire import post
from tests.service_process import PATIENCE, ServiceProcess, free_port, service_process

pytestmark = pytest.mark.slow

TOKEN = "made-up"  # noqa: S105
NONE = "X-Nothing: here"
MEMORY = 64 * 2**20
"""Bytes by which the process may have grown when everything was tried: a leak of one large request each is more."""
NOT_CHECKED = "positive_data_acceptance"
"""JSON Schema takes 1.0 for an integer; an id that comes back as it was sent cannot."""
ENOUGH = 2**20
"""Bytes of answers that are read at most: an event stream has no end."""
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


# --- by the document --------------------------------------------------------------------------------------------------


@pytest.mark.hypothesis
@pytest.mark.parametrize("guarded", [False, True])
def test_the_document_is_right_about_every_answer(workshop: Workshop, tmp_path: Path, guarded: bool):
    """Status, media type, schema and headers, of good and of bad requests, on both ports, with and without a token."""
    port = free_port()
    environ = workshop.environ() | {"CALSVC_ADMIN_PORT": str(port)} | ({"CALSVC_TOKEN": TOKEN} if guarded else {})
    with service_process(tmp_path, environ) as service:
        with_and_without = [(service.url, f"Authorization: Bearer {TOKEN}"), (service.url, NONE)]
        for url, header in with_and_without if guarded else [(service.url, NONE), (f"http://127.0.0.1:{port}", NONE)]:
            found = schemathesis(tmp_path, f"{url}/openapi.json", header)
            assert found.returncode == 0, found.stdout
        assert "Traceback" not in service.output()


def schemathesis(folder: Path, document: str, header: str) -> subprocess.CompletedProcess[str]:
    """Try every operation of a document."""
    options = ["--checks", "all", "--exclude-checks", NOT_CHECKED, "--header", header, "--no-color"]
    options += ["--max-examples", "1000"] if searching() else ["--max-examples", "20", "--generation-deterministic"]
    return subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", document, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=None if searching() else 5 * PATIENCE,
    )


# --- byte by byte -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One service for everything that is tried."""
    with service_process(tmp_path_factory.mktemp("target"), workshop.environ()) as service:
        yield service


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = st.sampled_from(
    [
        post(),
        post(path="/feedback"),
        post(b"{"),
        post(workout(id="\ud83d\ude00", Age=0)),
        post(more="Expect: 100-continue\r\n"),
        post(more="Connection: close\r\n"),
        post(more="Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        CHUNKED + b"%x\r\n%b\r\n0\r\nT: 1\r\n\r\n" % (len(workout()), workout()),
        *(
            b"%b %b HTTP/1.1\r\nHost: c\r\n\r\n" % (method, path)
            for method, path in (
                *((b"GET", b"/livez"), (b"HEAD", b"/"), (b"GET", b"/static/page.js"), (b"GET", b"/events")),
                *((b"OPTIONS", b"*"), (b"GET", b"http://c/info"), (b"TRACE", b"/predict"), (b"GET", b"/metrics")),
            )
        ),
    ]
)
SPICE = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b"\x80",
            b" ",
            b"\t",
            b":",
            b"%",
            b"%00",
            b"/..",
            b"?",
            b"#",
            b"\r\n\r\n",
            b"0\r\n\r\n",
        ),
        *(b"Content-Length: 0\r\n", b"Content-Length: 99999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: d\r\n"),
        *(b"ffffffffffffffff", b"-1", b"HTTP/1.0", b"HTTP/9.9", b"Upgrade: h2c\r\n", b"Expect: 100-continue\r\n"),
        *(
            b"Authorization: Bearer x\r\n",
            b"traceparent: 00-",
            b"x" * 20_000,
            b"[" * 5000,
            b"1" * 5000,
            b"GET / HTTP/1.1\r\n",
        ),
    ]
)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A request to which somebody has done something."""
    request = draw(REQUESTS)
    for _ in range(draw(st.integers(0, 4))):
        at, end = sorted(draw(st.tuples(st.integers(0, len(request)), st.integers(0, len(request)))))
        what = draw(st.sampled_from(["insert", "cut", "twice", "line twice", "byte"]))
        if what == "insert":
            request = request[:at] + draw(SPICE) + request[at:]
        elif what == "cut":
            request = request[:at] + request[end:]
        elif what == "twice":
            request = request[:end] + request[at:]
        elif what == "byte":
            request = request[:at] + draw(st.binary(min_size=1, max_size=3)) + request[at + 1 :]
        else:
            lines = request.split(b"\r\n")
            number = at % len(lines)
            request = b"\r\n".join(lines[: number + 1] + lines[number:])
    return request


STREAMS = st.lists(changed() | REQUESTS, min_size=1, max_size=6).map(b"".join) | st.binary(max_size=2000)


@settings(few(1000), suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(stream=STREAMS, cuts=st.lists(st.floats(0, 1), max_size=6), end=st.sampled_from(["wait", "half", "reset"]))
def test_no_bytes_break_the_service(target: ServiceProcess, stream: bytes, cuts: list[float], end: str):
    """Whatever comes, in whatever pieces: no fault, an end, and the next good client is served."""
    before = memory_of(target)
    answers = sent(target.port, stream, sorted(int(cut * len(stream)) for cut in cuts), end)
    assert {status for status in STATUS.findall(answers) if status >= b"500"} <= {b"503"}
    assert target.process.poll() is None
    assert target.call("/predict", WORKOUT)[0] == 200
    assert memory_of(target) < before + MEMORY


def sent(port: int, stream: bytes, cuts: list[int], end: str) -> bytes:
    """Send bytes in pieces, take what is answered soon, and leave in one way or another."""
    answers = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for begin, until in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                connection.sendall(stream[begin:until])
            if end == "half":
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.05 if end == "half" else 0.01)
            while end != "reset" and len(answers) < ENOUGH and (data := connection.recv(2**16)):
                answers += data
        except OSError:
            pass  # it may hang up, and take its time
    return answers


def test_afterwards_nothing_is_left(target: ServiceProcess):
    """No traceback in the log, but of uvloop's: it refuses to write where a client has reset its stream of events."""
    tracebacks = [line for line in target.output().splitlines() if "Traceback" in line]
    assert [line for line in tracebacks if "_ensure_alive" not in line] == []
    files = len(list(Path(f"/proc/{target.process.pid}/fd").iterdir()))
    assert files < 100, "connections are closed"
    assert target.stop() == 0


def memory_of(service: ServiceProcess) -> int:
    """Resident bytes; 0 where that is not told."""
    statm = Path(f"/proc/{service.process.pid}/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0

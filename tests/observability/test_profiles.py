"""Profiles: what the real client sends arrives readable, and nothing that is missing does harm."""

import gzip
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from calsvc.http.errors import SettingsError
from calsvc.settings import Settings
from observability import profiles
from observability.profiles import Profiles, start_profiles
from tests.serving import serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds that anything may take here before it counts as hanging."""
CHILD = """
import asyncio, logging, sys, time, zlib
from observability.profiles import start_profiles

def burn(seconds):
    # Nothing is sampled in a sleep: the client reads a stack first and its tags then, and finds no change in between.
    time.sleep(0.2)
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))
    time.sleep(0.2)

def before_the_swap():
    burn(0.6)

def after_the_swap():
    burn(0.6)

def answering():
    burn(0.4)

def learning():
    burn(0.4)

def without_the_gil():
    end = time.process_time() + 0.6
    while time.process_time() < end:
        zlib.compress(bytes(4_000_000), 9)

async def request(work):
    work()
    await asyncio.sleep(0)  # the other requests have their turn
    work()

async def serve():
    await asyncio.gather(request(answering), request(learning))

logging.basicConfig(format="%(levelname)s %(message)s")
profiles = start_profiles(sys.argv[1], "calsvc-test", {"service_version": "1.2.3"})
assert profiles.running
profiles.model("old")
before_the_swap()
profiles.model("new")
after_the_swap()
asyncio.run(serve())
without_the_gil()
profiles.shutdown()
"""
BRIEF = """
import logging, sys, time
from observability.profiles import start_profiles

logging.basicConfig(format="%(levelname)s %(message)s")
profiles = start_profiles(sys.argv[1], "calsvc-test", {})
end = time.process_time() + 0.2
while time.process_time() < end:
    sum(range(1000))
profiles.shutdown()
"""


class Upload(NamedTuple):
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


class Sample(NamedTuple):
    """One stack of a profile: its functions, its own tags, and the nanoseconds it stands for."""

    functions: list[str]
    tags: dict[str, str]
    value: int


@contextmanager
def listening_sink() -> Iterator[tuple[str, "SimpleQueue[Upload]"]]:
    """A Pyroscope server that takes everything; yields its address and what has arrived."""
    arrived: SimpleQueue[Upload] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.put(Upload(self.path, {key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}", arrived


def run_child(address: str, code: str) -> subprocess.CompletedProcess[str]:
    """Profile a busy process of its own from start to end."""
    command = [sys.executable, "-c", code, address]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """The numbered fields of a protobuf message: integers, and bytes for everything else that is used here."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        assert key & 7 in {0, 2}
        value: Any = varint()
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        yield key >> 3, value


def series(body: bytes) -> Iterator[tuple[dict[str, str], list[Sample]]]:
    """Labels and samples of each series in a push.v1.PushRequest, whose profiles are google/pprof's Profile."""
    for _, one in fields(gzip.decompress(body)):
        pairs = [dict(fields(value)) for number, value in fields(one) if number == 1]
        raw = [dict(fields(value))[1] for number, value in fields(one) if number == 2]
        labels = {pair[1].decode(): pair[2].decode() for pair in pairs}
        yield labels, [sample for profile in raw for sample in samples(profile)]


def samples(profile: bytes) -> list[Sample]:
    """The stacks of a pprof Profile by name."""
    parts: dict[int, list[Any]] = {}
    for number, value in fields(profile):
        parts.setdefault(number, []).append(value)
    strings = [text.decode() for text in parts[6]]
    functions = {one[1]: strings[one[2]] for one in map(dict, map(fields, parts[5]))}
    locations = {one[1]: functions[dict(fields(one[4]))[1]] for one in map(dict, map(fields, parts[4]))}

    def numbers(sample: bytes, field: int) -> Iterator[int]:
        for number, value in fields(sample):
            if number == field:  # packed, or one at a time
                yield from [value] if isinstance(value, int) else [each for _, each in fields(_unpacked(value))]

    def tags(sample: bytes) -> dict[str, str]:
        pairs = [dict(fields(value)) for number, value in fields(sample) if number == 3]
        return {strings[pair[1]]: strings[pair[2]] for pair in pairs}

    return [Sample([locations[each] for each in numbers(one, 1)], tags(one), sum(numbers(one, 2))) for one in parts[2]]


def _unpacked(packed: bytes) -> bytes:
    """A packed list of varints as a message with each in a field of its own."""
    message = bytearray(b"\x08")
    for byte in packed:
        message.append(byte)
        if byte < 128:
            message += b"\x08"
    return bytes(message[:-1])


@pytest.fixture(scope="module")
def uploads() -> list[Upload]:
    """What the real client sends for a process: once, or more often where that lived longer on a busy machine."""
    with listening_sink() as (address, arrived):
        child = run_child(address, CHILD)
        assert (child.returncode, child.stderr) == (0, "")
        sent = [arrived.get(timeout=PATIENCE)]
        while not arrived.empty():
            sent.append(arrived.get())
        return sent


def found(uploads: list[Upload], function: str) -> list[Sample]:
    """The samples in which a function was running."""
    of_all = [sample for upload in uploads for _, many in series(upload.body) for sample in many]
    return [sample for sample in of_all if function in sample.functions]


def test_the_client_speaks_the_push_api(uploads: list[Upload]):
    """A PushRequest, gzipped, to the path that Pyroscope's servers take; no word about who runs it."""
    upload = uploads[0]
    assert upload.path == "/push.v1.PusherService/Push"
    headers = {key: upload.headers[key] for key in ("content-type", "content-encoding")}
    assert headers == {"content-type": "application/proto", "content-encoding": "gzip"}
    assert upload.headers["user-agent"].startswith("pyroscope-rs/")


def test_a_profile_has_its_application_and_tags(uploads: list[Upload]):
    """Name and tags of the start are labels of the series."""
    expected = {"__name__": "process_cpu", "service_name": "calsvc-test", "service_version": "1.2.3"}
    for upload in uploads:
        ((labels, _),) = series(upload.body)
        assert expected.items() <= labels.items()


def test_a_swapped_model_changes_the_tag(uploads: list[Upload]):
    """Samples carry the version that was serving when they were taken, and only that one."""
    before = {sample.tags["model_version"] for sample in found(uploads, "before_the_swap")}
    after = {sample.tags["model_version"] for sample in found(uploads, "after_the_swap")}
    assert (before, after) == ({"old"}, {"new"})


def test_every_request_has_the_tags_of_the_process_and_no_others(uploads: list[Upload]):
    """Although requests take turns: what all of them share is right on every sample."""
    for function in ("answering", "learning", "without_the_gil"):
        samples = found(uploads, function)
        assert samples
        assert all(sample.tags == {"model_version": "new"} for sample in samples)


def test_native_code_counts_for_its_python_caller(uploads: list[Upload]):
    """Most of the time of a function that lets go of the GIL is there: scoring is such a function."""
    seen, ever = (sum(one.value for one in found(uploads, name)) for name in ("without_the_gil", "answering"))
    assert seen > ever / 4  # about as much CPU; wall time on a shared machine is not as exact


def test_a_server_that_is_down_costs_one_line():
    """The process runs and ends as always."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    child = run_child(f"http://127.0.0.1:{port}", BRIEF)
    assert child.returncode == 0
    (line,) = child.stderr.splitlines()
    assert line.startswith(f"WARNING no Pyroscope server at 127.0.0.1:{port} (")


def test_an_outage_is_told_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """However often one looks: a line when the server is not there, and another when it is."""
    monkeypatch.setattr(profiles, "WATCH_INTERVAL", 0.01)
    monkeypatch.setitem(sys.modules, "pyroscope", SimpleNamespace(configure=lambda **_: True, shutdown=lambda: True))
    caplog.set_level(logging.INFO)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    running = start_profiles(f"http://127.0.0.1:{address[1]}", "calsvc", {})
    try:
        looks = wait_for_lines(caplog, 1)
        time.sleep(0.1)  # ten looks more
        assert len(caplog.records) == looks
        with socket.create_server(address):
            wait_for_lines(caplog, 2)
    finally:
        running.shutdown()
    lost, again = caplog.messages[:2]
    assert lost.startswith(f"no Pyroscope server at 127.0.0.1:{address[1]} (")
    assert again == f"profiles arrive at 127.0.0.1:{address[1]} again"


def wait_for_lines(caplog: pytest.LogCaptureFixture, number: int) -> int:
    """Wait until so many lines have been logged; return how many there are."""
    until = time.monotonic() + PATIENCE
    while len(caplog.records) < number and time.monotonic() < until:
        time.sleep(0.01)
    return len(caplog.records)


def test_a_server_that_never_answers_holds_nobody():
    """It accepts, and is silent: the process still ends well, the last upload given up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        child = run_child(f"http://127.0.0.1:{silent.getsockname()[1]}", BRIEF)
    assert (child.returncode, child.stderr) == (0, "")


def test_shutdown_does_not_wait_for_the_client(monkeypatch: pytest.MonkeyPatch):
    """Not even where the client never comes back."""
    release = threading.Event()
    monkeypatch.setattr(profiles, "SHUTDOWN_TIMEOUT", 0.01)
    running = Profiles(SimpleNamespace(shutdown=release.wait))
    try:
        running.shutdown()
        assert not running.running
    finally:
        release.set()


def test_without_the_package_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The extra is optional; tags and shutdown of what did not start do nothing."""
    monkeypatch.setitem(sys.modules, "pyroscope", None)
    off = start_profiles("http://127.0.0.1:4040", "calsvc", {})
    off.model("v")
    off.shutdown()
    assert not off.running
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "pip install 'calsvc[profiling]'" in record.getMessage()


def test_a_process_that_cannot_be_sampled_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """The client's refusal is one line, too."""
    monkeypatch.setitem(sys.modules, "pyroscope", SimpleNamespace(configure=lambda **_: False))
    assert not start_profiles("http://127.0.0.1:4040", "calsvc", {}).running
    assert caplog.messages == ["no profiles: pyroscope-io cannot sample this process"]


def test_no_address_no_client():
    """Unset means that the package is not even imported."""
    code = (
        "import sys; from observability.profiles import start_profiles as s;"
        "assert not s('', 'calsvc', {}).running and 'pyroscope' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE)


@pytest.mark.parametrize("address", ["http://127.0.0.1:4040", "https://profiles.example/prefix"])
def test_an_address_is_a_url(address: str):
    """Any http or https address, path included."""
    assert Settings.from_env({"PYROSCOPE_SERVER_ADDRESS": address}).profiles_address.get_secret_value() == address


@pytest.mark.parametrize(
    "address", ["localhost:4040", "ftp://h", "http://", "http://h:port", "http://u:p@h", "http://h?x=1", "http://h /"]
)
def test_another_address_is_refused(address: str):
    """Clearly, before anything starts."""
    with pytest.raises(SettingsError, match=r"^PYROSCOPE_SERVER_ADDRESS=.*expected http://HOST"):
        Settings.from_env({"PYROSCOPE_SERVER_ADDRESS": address})

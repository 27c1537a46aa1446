"""A service that is told to go: whenever that is, no request that was taken stays without its answer."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from calsvc.model.bundle import load_bundle
from calsvc.training.publish import publish
from tests.conftest import Workshop
from tests.handouts import write_handout
from tests.http.test_schema import WORKOUT, workout
from tests.making import replace_in, successor
from tests.service_process import PATIENCE, ROOT, ServiceProcess, free_port, service_process

HEADERS = {"Content-Type": "application/json"}


@contextmanager
def connection(service: ServiceProcess) -> Iterator[http.client.HTTPConnection]:
    """A connection that is kept alive."""
    opened = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=PATIENCE)
    try:
        yield opened
    finally:
        opened.close()


def predict(through: http.client.HTTPConnection, **changes: object) -> http.client.HTTPResponse:
    """Ask for a prediction and read the answer."""
    through.request("POST", "/predict", workout(**changes), HEADERS)
    answer = through.getresponse()
    answer.read()
    return answer


@pytest.mark.slow
def test_a_connection_that_was_idle_is_answered_while_it_drains(workshop: Workshop, tmp_path: Path):
    """After SIGTERM the next answer on it says that the connection closes, and it does; new ones are taken as well."""
    environ = workshop.environ() | {"CALSVC_DRAIN_DELAY": "3"}
    with service_process(tmp_path, environ) as service, connection(service) as idle:
        assert predict(idle).getheader("Connection") is None
        service.process.send_signal(signal.SIGTERM)
        service.wait_until("/readyz", 503)
        answer = predict(idle)
        assert (answer.status, answer.getheader("Connection")) == (200, "close")
        assert idle.sock is None
        with connection(service) as fresh:
            assert predict(fresh).status == 200
        assert service.process.wait(PATIENCE) == 0


def test_a_connection_that_stays_idle_is_closed_in_order(workshop: Workshop, tmp_path: Path):
    """Its client finds an end of stream, and no reset."""
    with service_process(tmp_path, workshop.environ()) as service, connection(service) as idle:
        predict(idle)
        assert service.stop() == 0
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""


def test_a_request_of_which_half_has_come_is_answered(workshop: Workshop, tmp_path: Path):
    """Its head was there before the port closed; the rest comes when the drain delay is over."""
    body = workout()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with service_process(tmp_path, workshop.environ()) as service:
        parts = urlsplit(service.url)
        with socket.create_connection((parts.hostname, parts.port), PATIENCE) as slow:
            slow.sendall(head.encode() + body[:10])
            service.call("/livez")  # behind it in the event loop: the head was read
            service.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refused(service))
            slow.sendall(body[10:])
            assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert service.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_flushes_all_the_same(workshop: Workshop, tmp_path: Path, how: signal.Signals):
    """It does not wait for the drain delay, nor for long for a client that holds a request, and forgets nothing."""
    environ = workshop.environ() | {"CALSVC_DRAIN_DELAY": "600", "CALSVC_STORE": f"sqlite:///{tmp_path}/waiting.db"}
    with service_process(tmp_path, environ) as service, connection(service) as holding:
        holding.putrequest("POST", "/predict")
        holding.putheader("Content-Length", "100")
        holding.putheader("Content-Type", "application/json")
        holding.endheaders()
        assert service.call("/predict", WORKOUT | {"id": 7})[0] == 200
        service.process.send_signal(signal.SIGTERM)
        service.wait_until("/readyz", 503)
        assert service.call("/predict", WORKOUT | {"id": 8})[0] == 200
        assert service.stop(how) == 0
        assert "calsvc.service.stopped" in service.output()
    with service_process(tmp_path, environ) as service:
        assert [service.call("/feedback", {"id": each, "Calories": 1})[0] for each in (7, 8, 9)] == [200, 200, 404]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0])
def test_it_may_be_told_to_go_at_any_moment_of_its_start(workshop: Workshop, tmp_path: Path, after: float):
    """It ends with 0 and without a traceback, whatever it was at."""
    with service_process(tmp_path, workshop.environ(), ready=False) as service:
        time.sleep(after)  # wherever it is then
        status = service.stop()
        # Before Python has come so far as to hear of it, the kernel ends the process.
        assert status == 0 or (status == -signal.SIGTERM and service.output() == "")
        assert "Traceback" not in service.output()


@pytest.mark.slow
def test_a_training_at_the_start_ends_with_the_service(tmp_path: Path):
    """Nobody is there any more who could use it: neither the command nor the handout's own program goes on."""
    handout = write_handout(tmp_path / "slow hand out")
    mark = tmp_path / "pid"
    replace_in(
        handout / "train.py",
        "held = int(",
        f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)\nheld = int(",
    )
    environ = {"CALSVC_HANDOUT_DIR": str(handout), "CALSVC_MODEL": str(tmp_path / "data" / "bundle")}
    with service_process(tmp_path, environ, ready=False, folder_of_process=tmp_path) as service:
        wait_for(lambda: mark.exists() and mark.read_text())
        assert service.stop() == 0
        wait_for(lambda: not Path(f"/proc/{mark.read_text()}").exists())
    assert not (tmp_path / "data" / "bundle").exists()


def test_it_may_be_told_to_go_while_it_waits_for_its_store(workshop: Workshop, tmp_path: Path):
    """Another process has the file still: the one that waits for it can be told to go meanwhile."""
    environ = workshop.environ() | {"CALSVC_STORE": f"sqlite:///{tmp_path}/waiting.db"}
    with service_process(tmp_path, environ), service_process(tmp_path, environ, ready=False) as second:
        second.wait_until("/livez", 200)
        assert second.call("/readyz")[0] == 503
        assert second.stop() == 0


@pytest.mark.slow
def test_a_store_that_is_taken_ends_the_start_with_one_line(workshop: Workshop, tmp_path: Path):
    """Exit code 1, and which setting to change."""
    environ = workshop.environ() | {"CALSVC_STORE": f"sqlite:///{tmp_path}/waiting.db"}
    with service_process(tmp_path, environ):
        command = [sys.executable, "-m", "calsvc"]
        port = {"CALSVC_PORT": str(free_port())}
        second = subprocess.run(
            command, env=os.environ | environ | port, cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert second.returncode == 1
    assert second.stderr.startswith(
        f"error: CALSVC_STORE: {tmp_path}/waiting.db is in use by another process; name another"
    )
    assert second.stderr.count("\n") == 1


CRASHING = """
import runpy, anyio
from calsvc.feedback.store import MemoryStore

async def run(self, late):
    await anyio.sleep(0.5)
    raise AttributeError("nobody foresaw this")

MemoryStore.run = run
runpy.run_module("calsvc", run_name="__main__")
"""


@pytest.mark.slow
def test_a_process_of_which_a_part_has_failed_ends(workshop: Workshop):
    """Whoever watches over it starts another one; it does not stay, ready and useless."""
    environ = {**os.environ, **workshop.environ(), "CALSVC_STORE": "memory://", "CALSVC_PORT": "0"}
    command = [sys.executable, "-c", CRASHING]
    ended = subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "error: a part of the service has failed, and the process ends: AttributeError('nobody foresaw this'); "
        "the log shows where"
    )
    assert "nobody foresaw this" in ended.stdout


@pytest.mark.slow
def test_models_may_be_swapped_while_it_leaves(workshop: Workshop, tmp_path: Path):
    """SIGHUP and SIGTERM at once, under load: every request that is taken is answered by one of the two models."""
    folder = tmp_path / "bundle"
    bundle = load_bundle(workshop.bundle)
    files = {name: bundle.read(name) for name in bundle.manifest.checksums}
    publish(bundle.manifest, files, folder)
    environ = workshop.environ() | {"CALSVC_MODEL": str(folder), "CALSVC_DRAIN_DELAY": "1"}
    with service_process(tmp_path, environ) as service, crowd(service) as seen:
        wait_for(lambda: len(seen) > 100)
        swapped = publish(successor(bundle.manifest, 1), files, folder)
        service.process.send_signal(signal.SIGHUP)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
        assert "Traceback" not in service.output()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} <= {bundle.manifest.model_version, swapped.manifest.model_version}


@contextmanager
def crowd(service: ServiceProcess) -> Iterator[list[tuple[int, str]]]:
    """Clients that ask until nobody listens any more; yields the status and model of each answer."""
    seen: list[tuple[int, str]] = []

    def ask() -> None:
        with connection(service) as through:
            while True:
                fresh = through.sock is None
                try:
                    answer = predict(through)
                except ConnectionError:  # refused, or, before anybody has taken it, reset
                    assert fresh
                    return
                seen.append((answer.status, answer.getheader("X-Model-Version") or ""))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for each in clients:
        each.start()
    try:
        yield seen
    finally:
        for each in clients:
            each.join(PATIENCE)


def refused(service: ServiceProcess) -> bool:
    """Whether the port is closed."""
    try:
        service.call("/livez")
    except OSError:
        return True
    return False


def wait_for(holds: Callable[[], object]) -> None:
    """Ask again and again."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)

"""A service whose log is not read: it answers on, and logs how many lines were lost."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from observability.logs import QUEUED_LINES
from tests.conftest import Workshop
from tests.http.wire import post
from tests.service_process import PATIENCE, ROOT, ServiceProcess, free_port


@pytest.fixture
def unread(workshop: Workshop) -> Iterator[ServiceProcess]:
    """A service that logs every request to a pipe which nobody reads."""
    port = free_port()
    environ = {"CALSVC_PORT": str(port), "CALSVC_DRAIN_DELAY": "0", "OTEL_TRACES_SAMPLER": "always_on"}
    process = subprocess.Popen(
        [sys.executable, "-m", "calsvc"],
        env=os.environ | workshop.environ() | environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout as log:
        try:
            service = ServiceProcess(process, port, log)
            until = time.monotonic() + PATIENCE
            while not listens(port):
                assert time.monotonic() < until
                time.sleep(0.01)
            yield service
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def listens(port: int) -> bool:
    """Whether somebody answers there that it is ready."""
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(100)
    except OSError:
        return False


def ask(service: ServiceProcess, requests: int) -> None:
    """Send records that are none, each of which leaves a line."""
    with (
        socket.create_connection(("127.0.0.1", service.port), PATIENCE) as connection,
        connection.makefile("rb") as answers,
    ):
        for _ in range(requests):
            connection.sendall(post(b"{"))
            head = answers.readline()
            while (line := answers.readline()) != b"\r\n":
                head += line
            answers.read(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            assert head.startswith(b"HTTP/1.1 400 ")


@pytest.mark.slow
def test_a_service_whose_log_nobody_reads_answers_on(unread: ServiceProcess):
    """More lines than pipe and queue hold: every request is answered, and a later line says how many were lost."""
    ask(unread, 2 * QUEUED_LINES)
    lines = []
    for text in unread.log:
        lines.append(json.loads(text))
        if lines[-1]["event"] == "telemetry.lines.lost":
            break
    assert lines[-1]["lost"] > 0
    times = [line["timestamp"] for line in lines]
    assert times == sorted(times)
    ask(unread, 10)
    assert unread.stop() == 0


@pytest.mark.slow
def test_a_service_whose_log_nobody_reads_leaves_in_order(unread: ServiceProcess):
    """The last lines get some seconds, and no more."""
    ask(unread, QUEUED_LINES)
    assert unread.stop() == 0

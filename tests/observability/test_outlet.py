"""Log lines that nobody reads: they are lost, counted and told of, and nobody waits for them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from observability.outlet import MOST_HELD, Outlet
from tests.conftest import Workshop
from tests.service_process import PATIENCE, ROOT, ServiceProcess, free_port
from tests.test_protocol import post

LINE = "x" * 999 + "\n"


@contextmanager
def pipe() -> Iterator[tuple[IO[str], IO[str]]]:
    """A pipe's ends, to read and to write."""
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
        yield reader, writer


def test_who_does_not_read_is_not_waited_for():
    """What is too much is lost, and what was taken comes in order, before what comes later."""
    with pipe() as (reader, writer):
        outlet = Outlet(writer, most=10_000)
        for number in range(300):
            outlet.write(f"{number}\n" + LINE)
        assert outlet.take_lost() == 0  # there is no room to say so
        got = [line for line in take(reader, outlet) if not line.startswith("x")]
        lost = 2 * (300 - len(got))
        assert lost > 0
        assert got == [str(number) for number in range(len(got))]
        assert outlet.take_lost() == lost
        outlet.write("later\n")
        assert reader.readline() == "later\n"
        outlet.close()


def take(reader: IO[str], outlet: Outlet) -> list[str]:
    """Read all that the outlet holds; afterwards nothing is left in the pipe."""
    os.set_blocking(reader.fileno(), False)
    taken = b""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        held = outlet._bytes  # noqa: SLF001 - before looking: what was written by then is in the pipe
        try:
            taken += os.read(reader.fileno(), 2**16)
        except BlockingIOError:
            if not held:
                break
            time.sleep(0.001)
    os.set_blocking(reader.fileno(), True)
    return taken.decode().splitlines()


def test_who_has_gone_stops_nobody():
    """A pipe without a reader, a disk without room: lost, and what can be written later is."""
    with pipe() as (reader, writer):
        outlet = Outlet(writer)
        reader.close()
        outlet.write(LINE)
        outlet.close()
        assert outlet.take_lost() == 1
    full = Path("/dev/full")
    if full.exists():
        with full.open("w") as writer:
            outlet = Outlet(writer)
            outlet.write(LINE * 3)
            outlet.close()
            assert outlet.take_lost() == 3


def test_the_end_does_not_wait_for_long():
    """With lines that nobody takes, closing is over after its time."""
    with pipe() as (_, writer):
        outlet = Outlet(writer)
        for _ in range(500):
            outlet.write(LINE)
        outlet.close(timeout=0.01)
        assert outlet._bytes > 0  # noqa: SLF001


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
    """More lines than pipe and outlet hold: every request is answered, and a later line says how many were lost."""
    ask(unread, 2 * MOST_HELD // 300)
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
    ask(unread, MOST_HELD // 300)
    assert unread.stop() == 0

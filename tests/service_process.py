"""A real service in a process of its own, on a free port of the loopback interface."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
"""Seconds that anything may take here before it counts as hanging."""


class ServiceProcess:
    """A running `python -m calsvc`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def call(self, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        """GET, or POST of JSON (bytes go as they are); return status, headers, content."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - always http://127.0.0.1
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()

    def wait_until(self, path: str, status: int) -> float:
        """Poll until `path` answers with `status`; return how long it took, seconds."""
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE:
            if self.process.poll() is not None:
                raise RuntimeError(f"the service exited with {self.process.returncode}: {self.output()}")
            try:
                if self.call(path)[0] == status:
                    return time.monotonic() - started
            except OSError:
                pass  # the port is not open yet
            time.sleep(0.01)
        raise TimeoutError(f"{path} did not answer {status} within {PATIENCE:g} s: {self.output()}")

    def output(self) -> str:
        """Everything the process has printed."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)


def _ports() -> Sequence[int]:
    """Ports that no other worker of this test run uses, below those that the system gives to connections."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    size = (LAST_PORT - FIRST_PORT) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = FIRST_PORT + worker * size
    start = os.getpid() % size  # another port than a concurrent test run begins with
    return [*range(first + start, first + size), *range(first, first + start)]


FIRST_PORT, LAST_PORT = 10_240, 32_768
PORTS = _ports()
NEXT_PORT = itertools.cycle(PORTS)


def free_port() -> int:
    """A port of the loopback interface that is unused and was not handed out recently."""
    for _ in PORTS:
        port = next(NEXT_PORT)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError(f"no port is free from {min(PORTS)} to {max(PORTS)}")


@contextmanager
def service_process(
    folder: Path,
    environ: Mapping[str, str],
    *,
    ready: bool = True,
    folder_of_process: Path = ROOT,
    command: Sequence[str] = ("-m", "calsvc"),
) -> Iterator[ServiceProcess]:
    """Run the service in the checkout with `environ` on top of ours, logging to `folder`; stop it at the end."""
    port = free_port()
    settings = {
        "CALSVC_PORT": str(port),
        "CALSVC_DRAIN_DELAY": "0.1",
        "CALSVC_STORE": f"sqlite:///{folder}/waiting-{port}.db",
        **environ,
    }
    with (folder / f"service-{port}.log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, *command], env=os.environ | settings, cwd=folder_of_process, stdout=log, stderr=log
        )
        try:
            service = ServiceProcess(process, port, log)
            if ready:
                service.wait_until("/readyz", 200)
            yield service
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

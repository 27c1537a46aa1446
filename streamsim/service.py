"""A calsvc of our own for the demonstration: started on a free port, waited for, and always stopped."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError

from observability.addresses import without_user
from observability.http_clients import get_text
from streamsim.errors import DemoFailed

READY_WITHIN_S: Final = 60.0
STOPPED_WITHIN_S: Final = 30.0
LOG_TAIL_LINES: Final = 20


@contextmanager
def started_service(log: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Run `python -m calsvc` with these settings for the length of the block; yields its URL once it is ready.

    Raises:
        DemoFailed: it ended or did not get ready; the end of its log is in the message.
    """
    port = _free_port()
    environment = {**os.environ, **settings, "CALSVC_HOST": "127.0.0.1", "CALSVC_PORT": str(port)}
    with log.open("wb") as output:
        # In a session of its own: Ctrl-C is for the stream, which still wants answers to what is in flight.
        child = subprocess.Popen(
            [sys.executable, "-m", "calsvc"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(child, url, log)
        yield url
    finally:
        _stop(child)


def fetch(url: str, token: str | None = None) -> str:
    """Return the text at a URL of the service; see `get_text`.

    Raises:
        DemoFailed: no answer, or another one than 200.
    """
    try:
        return get_text(url, 10, token)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise DemoFailed(f"{without_user(url)}: {error}") from None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            fetch(f"{url}/readyz")
        except DemoFailed:
            if child.poll() is not None or time.monotonic() > deadline:
                ended = "did not get ready" if child.returncode is None else f"ended with status {child.returncode}"
                raise DemoFailed(f"the service {ended}; the end of its log:\n{tail(log)}") from None
            time.sleep(0.05)  # another process: there is no event to wait for
        else:
            return


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def tail(log: Path) -> str:
    """Return the last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

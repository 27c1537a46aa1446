"""The health check of the image: whom it asks, and what it makes of the answers."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calsvc.http.errors import SettingsError
from calsvc.http.probe import address
from tests.conftest import Workshop
from tests.service_process import free_port, service_process


def probe(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it as a health check does."""
    return subprocess.run(
        [sys.executable, "-m", "calsvc.http.probe", *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def answering(words: bytes) -> Iterator[str]:
    """A port on which one caller gets these words."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        yield str(server.getsockname()[1])
        thread.join()


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, ("127.0.0.1", 8000)),
        ({"CALSVC_HOST": "0.0.0.0", "CALSVC_PORT": "9000"}, ("127.0.0.1", 9000)),  # noqa: S104
        ({"CALSVC_HOST": "::"}, ("::1", 8000)),
        ({"CALSVC_HOST": "127.0.0.2", "CALSVC_ADMIN_PORT": "8001"}, ("127.0.0.2", 8000)),
        ({"CALSVC_PORT": "", "CALSVC_DRAIN_DELAY": "wrong, and not its business"}, ("127.0.0.1", 8000)),
    ],
)
def test_it_asks_where_the_service_listens(environ: dict[str, str], asked: tuple[str, int]):
    """On the first port, which answers probes with or without a second one."""
    assert address(environ) == asked


@pytest.mark.parametrize("port", ["0", "eight"])
def test_a_port_that_cannot_be_asked_is_a_wrong_setting(port: str):
    """Named with its key."""
    with pytest.raises(SettingsError, match="CALSVC_PORT"):
        address({"CALSVC_PORT": port})
    ended = probe(CALSVC_PORT=port)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: CALSVC_PORT")


def test_a_service_that_is_well_is_well(workshop: Workshop, tmp_path: Path):
    """Exit code 0 and what it said, also with a second port; 1 for a page that does not exist."""
    environ = workshop.environ() | {"CALSVC_ADMIN_PORT": str(free_port())}
    with service_process(tmp_path, environ) as service:
        well = probe(CALSVC_PORT=str(service.port))
        assert (well.returncode, well.stdout) == (0, '200 {"status":"ok"}\n')
        assert probe("/readyz", CALSVC_PORT=str(service.port)).returncode == 0
        assert probe("/nowhere", CALSVC_PORT=str(service.port)).returncode == 1


@pytest.mark.parametrize(
    "words",
    [b"HTTP/1.1 503 Service Unavailable\r\n\r\nstarting", b"", b"SSH-2.0-x 200\r\n\r\n", b"HTTP/1.1 no\r\n\r\n"],
)
def test_any_other_answer_is_not_well(words: bytes):
    """Exit code 1, and no traceback."""
    with answering(words) as port:
        ended = probe(CALSVC_PORT=port)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


def test_nobody_there_is_not_well():
    """Exit code 1 and one line."""
    ended = probe(CALSVC_PORT=str(free_port()))
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: no answer from the service: ")

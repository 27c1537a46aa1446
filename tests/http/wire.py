"""An application behind the service's own uvicorn, on a real port, and bytes as a client sends them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from calsvc.server import uvicorn_config
from tests.http.test_schema import workout
from tests.service_process import PATIENCE


@contextmanager
def served(app: ASGIApp) -> Iterator[int]:
    """Serve an application on a free port, from a thread: there uvicorn leaves the test run's signals alone."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until = time.monotonic() + PATIENCE
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def exchange(port: int, *parts: bytes) -> bytes:
    """Send bytes on one connection and return all that comes back until it closes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def post(body: bytes | None = None, path: str = "/predict", more: str = "") -> bytes:
    """One request as it comes over the wire."""
    body = workout() if body is None else body
    head = f"POST {path} HTTP/1.1\r\nHost: calsvc\r\nContent-Type: application/json\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

"""What several tests of this folder share."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serving import serving


@pytest.fixture
def serve_metrics() -> Iterator[Callable[[bytes], str]]:
    """Serve bytes as the answer to every GET; return the address."""
    content = b""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:

        def answer(body: bytes) -> str:
            nonlocal content
            content = body
            return f"http://127.0.0.1:{server.server_port}"

        yield answer

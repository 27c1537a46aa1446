"""A stand-in for an MLflow server: the few pages of its REST API that the service reads, with bundles of this disk."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.serving import serving

API = "/api/2.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


class StandIn(ThreadingHTTPServer):
    """Serves versions of the model `calories`: folders by number, numbers by alias. `down`: answers nothing useful."""

    daemon_threads = True

    def __init__(self, versions: dict[str, Path], aliases: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.versions = versions
        self.aliases = aliases
        self.down = False

    @property
    def url(self) -> str:
        """Its tracking URI."""
        return f"http://127.0.0.1:{self.server_port}"

    def page(self, path: str, query: dict[str, str]) -> Any:
        """Return what becomes JSON, bytes of a file, or None."""
        if path == f"{API}/registered-models/alias":
            number = self.aliases.get(query["alias"])
            return None if number is None else {"model_version": self._version(number)}
        if path == f"{API}/registered-models/get":
            return {"registered_model": {"name": query["name"]}}
        if path == f"{API}/model-versions/get-download-uri":
            return {"artifact_uri": f"mlflow-artifacts:/{query['version']}"}
        number, _, name = (query.get("path") or path.removeprefix(f"{PROXY}/")).partition("/")
        folder = self.versions[number]
        if name:
            return (folder / name).read_bytes()
        return {"files": [{"path": each.name, "is_dir": False} for each in folder.iterdir()]}

    def _version(self, number: str) -> dict[str, Any]:
        source = f"mlflow-artifacts:/{number}"
        return {"name": "calories", "version": number, "creation_timestamp": 1_790_000_000_000, "source": source}


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_GET(self) -> None:
        """Answer."""
        url = urlsplit(self.path)
        found = self.server.page(url.path, {name: each[0] for name, each in parse_qs(url.query).items()})
        status = 503 if self.server.down else 200
        if found is None:
            status, found = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such alias"}
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@contextmanager
def standing_in(versions: dict[str, Path], aliases: dict[str, str]) -> Iterator[StandIn]:
    """Run it in a thread."""
    with serving(StandIn(versions, aliases)) as server:
        yield server

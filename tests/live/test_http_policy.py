"""One policy for every HTTP client: proxies, certificates of authorities, user and password in an address."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from observability.http_clients import LOOPBACK, share_variables
from tests.service_process import ROOT
from tests.serving import serving

AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
OF_CLIENTS = {"MLFLOW_TRACKING_SERVER_CERT_PATH", "OTEL_EXPORTER_OTLP_CERTIFICATE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
API = "/api/2.0/mlflow"
CLIENTS = (
    ("registry_of_serve", f"{API}/registered-models/alias"),
    ("store_of_commands", f"{API}/experiments/search"),
    ("collector", "/v1/traces"),
    ("pyroscope", "/push.v1.PusherService/Push"),
    ("simulator", "/predict"),
    ("shared_store", ""),
    ("promote_on_live", "/metrics"),
    ("demo_and_stress", "/metrics"),
)
"""Of `all_clients`, and what each asks for first."""
VERSION = {"name": "calories", "version": "1", "creation_timestamp": 1, "source": "mlflow-artifacts:/1"}
PAGES: Mapping[str, Any] = {
    f"{API}/experiments/search": {},
    f"{API}/registered-models/get": {"registered_model": {"name": "calories"}},
    f"{API}/registered-models/alias": {"model_version": VERSION},
    f"{API}/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/1"},
    "/api/2.0/mlflow-artifacts/artifacts": {"files": [{"path": "bundle.json", "is_dir": False}]},
    "/api/2.0/mlflow-artifacts/artifacts/1/bundle.json": {},
    "/predict": {"id": 1, "Calories": 1.0},
    "/v1/traces": {},
}


class Everything(ThreadingHTTPServer):
    """What each client asks for, on one port, to whoever has the password. `asked`: path, and whether it was sent."""

    daemon_threads = True

    def __init__(self, password: str, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Page)
        self.credentials = f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}"
        self.asked: list[tuple[str, bool]] = []

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that do not trust it."""


class _Page(BaseHTTPRequestHandler):
    server: Everything

    def do_GET(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        knows = self.headers.get("Authorization") == self.server.credentials
        self.server.asked.append((path, knows))
        content = b"calsvc_predictions_total 1\n" if path == "/metrics" else json.dumps(PAGES.get(path, {})).encode()
        self.send_response(200 if knows else 401)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Authority(NamedTuple):
    """A private authority: its certificate as a file and as a folder of OpenSSL's, and a server's context."""

    file: Path
    folder: Path
    context: ssl.SSLContext
    unknown: Path
    """of another"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make it."""
    folder, ca = tmp_path_factory.mktemp("authority"), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost", "::1").configure_cert(context)
    found = Authority(folder / "ca.pem", folder / "hashed", context, folder / "unknown.pem")
    ca.cert_pem.write_to_path(str(found.file))
    trustme.CA().cert_pem.write_to_path(str(found.unknown))
    found.folder.mkdir()
    asked = ["openssl", "x509", "-hash", "-noout", "-in", str(found.file)]
    name = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    (found.folder / f"{name}.0").write_bytes(found.file.read_bytes())
    return found


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that refuses whatever it is asked for; its address, and that."""
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_error(502)

        do_CONNECT = do_GET = do_POST = refuse  # noqa: N815 - the standard library's names

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Refusing)) as server:
        yield f"http://127.0.0.1:{server.server_port}", asked


def environ_with(**variables: str) -> dict[str, str]:
    """Return the environment of this process without any variable of such a policy, and with these."""
    names = {*AUTHORITIES, *OF_CLIENTS, *PROXIES, *(name.upper() for name in PROXIES)}
    return {name: text for name, text in os.environ.items() if name not in names} | variables


def failures(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return which clients fail to ask the server at `url`, and how."""
    command = [sys.executable, "-m", "tests.live.all_clients", url]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- every client against one server ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "variable"), [*(("https", name) for name in AUTHORITIES), ("HTTPS", AUTHORITIES[0])]
)
def test_every_client_trusts_a_private_authority(
    authority: Authority, proxy: tuple[str, list[str]], scheme: str, variable: str
) -> None:
    """Named by any of the usual variables, with a password that has to be encoded, and never through a proxy."""
    address, asked = proxy
    trusted = authority.folder if variable.endswith("DIR") else authority.file
    environ = environ_with(**{variable: str(trusted)}) | dict.fromkeys(
        ("HTTP_PROXY", "https_proxy", "ALL_PROXY"), address
    )
    with serving(Everything("s3cret/@#?:%łü")) as server:
        server.socket = authority.context.wrap_socket(server.socket, server_side=True)
        url = f"{scheme}://me:s3cret%2F%40%23%3F%3A%25%C5%82%C3%BC@127.0.0.1:{server.server_port}"
        assert failures(url, environ) == {}
        without = {path for path, knows in server.asked if not knows}
    assert without == {"/push.v1.PusherService/Push"}, "profiles are sent without a password"
    assert asked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "trusting"),
    [
        ("MLFLOW_TRACKING_SERVER_CERT_PATH", {"registry_of_serve", "store_of_commands"}),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", {"collector"}),
        ("REQUESTS_CA_BUNDLE", set()),
    ],
)
def test_a_clients_own_variable_goes_before(authority: Authority, variable: str, trusting: set[str]) -> None:
    """All others say why they do not trust the server, and send it nothing."""
    environ = environ_with(SSL_CERT_FILE=str(authority.file)) | {"REQUESTS_CA_BUNDLE": str(authority.unknown)}
    if variable not in environ:
        environ[variable] = str(authority.file)
    with serving(Everything("s3cret")) as server:
        server.socket = authority.context.wrap_socket(server.socket, server_side=True)
        failed = failures(f"https://me:s3cret@127.0.0.1:{server.server_port}", environ)
    assert {name for name, _ in CLIENTS} - failed.keys() == {"pyroscope", *trusting}
    silent = {"simulator", "collector"}  # the first counts, the second logs why
    assert not [text for name, text in failed.items() if name not in silent and "certificate" not in text.lower()]
    asked = {path for path, _ in server.asked} & {path for _, path in CLIENTS}
    assert asked == {path for name, path in CLIENTS if name in trusting}


@pytest.mark.slow
@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.2"])
def test_loopback_is_never_behind_a_proxy(proxy: tuple[str, list[str]], host: str) -> None:
    """By any of its names and addresses; but for a user's own list, which stays."""
    address, asked = proxy
    environ = environ_with(NO_PROXY="example.org") | dict.fromkeys(("http_proxy", "HTTPS_PROXY", "all_proxy"), address)
    with serving(Everything("s3cret", host)) as server:
        assert failures(f"http://me:s3cret@{f'[{host}]' if ':' in host else host}:{server.server_port}", environ) == {}
    assert asked == []


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "NO_PROXY"])
def test_servers_of_others_are_behind_the_proxy_and_our_service_is_not(
    proxy: tuple[str, list[str]], variable: str
) -> None:
    """Registry, collector and Pyroscope by any of the usual variables, unless NO_PROXY names them."""
    address, asked = proxy
    environ = environ_with(http_proxy=address) if variable == "NO_PROXY" else environ_with(**{variable: address})
    environ["NO_PROXY"] = "other.invalid,there.invalid" if variable == "NO_PROXY" else "other.invalid"
    failed = failures("http://there.invalid:5000", environ)
    assert failed.keys() == {name for name, _ in CLIENTS} - {"pyroscope", "shared_store"}  # which do not say so
    paths = {each.partition("there.invalid:5000")[2].partition("?")[0] for each in asked}
    assert paths == (set() if variable == "NO_PROXY" else {path for _, path in CLIENTS[:4]})


def test_grpc_takes_the_same_proxy(proxy: tuple[str, list[str]]) -> None:
    """By variables that it would not read itself."""
    address, asked = proxy
    code = (
        "import os, tests.live.all_clients as a; a.share_variables(os.environ); a.collector('http://there.invalid:1')"
    )
    for environ in ({"HTTPS_PROXY": address}, {"ALL_PROXY": address}):
        given = environ_with(**environ, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_TIMEOUT="1")
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=given, capture_output=True, check=False)
        assert "CONNECT there.invalid:1" in asked
        asked.clear()


# --- the variables ----------------------------------------------------------------------------------------------------


def shared(**variables: str) -> dict[str, str]:
    """What becomes of an environment."""
    share_variables(variables)
    return variables


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_loopback_is_added_to_what_needs_no_proxy(name: str) -> None:
    """Once, in both spellings, behind what a user has set; `*` stays what it is."""
    for before in ("", "*", "10.0.0.0/8, .example.org", "localhost"):
        environ = shared(**{name: before})
        assert environ["no_proxy"] == environ["NO_PROXY"]
        names = environ["no_proxy"].split(",")
        assert len(names) == len(set(names))
        assert set(names) == {*filter(None, before.replace(" ", "").split(",")), *LOOPBACK}
        assert shared(**environ) == environ


def test_a_proxy_is_found_by_either_spelling() -> None:
    """The lower case goes before, as in most clients; one for everything stands behind one for a scheme."""
    environ = shared(http_proxy="http://a", HTTP_PROXY="http://b", ALL_PROXY="http://c")
    assert (environ["http_proxy"], environ["HTTP_PROXY"]) == ("http://a", "http://a")
    assert (environ["https_proxy"], environ["HTTPS_PROXY"]) == ("http://c", "http://c")
    assert not shared().keys() & {"http_proxy", "HTTPS_PROXY"}


def test_the_first_variable_of_authorities_holds_for_all(tmp_path: Path) -> None:
    """A file or a folder; a client's own variable stays; where none is set, each client trusts what it trusts."""
    file, folder = tmp_path / "ca.pem", tmp_path
    environ = shared(CURL_CA_BUNDLE=str(file), SSL_CERT_FILE="other", GRPC_DEFAULT_SSL_ROOTS_FILE_PATH="own")
    assert {environ[name] for name in AUTHORITIES[:3]} == {str(file)}
    assert environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] == "own"
    environ = shared(REQUESTS_CA_BUNDLE=str(folder))
    assert (environ["SSL_CERT_DIR"], "SSL_CERT_FILE" in environ) == (str(folder), False)
    assert shared().keys() == {"no_proxy", "NO_PROXY"}

"""The registry's clients against small servers that behave, misbehave, or are not there."""

import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from calsvc.http.errors import RegistryError
from calsvc.registry.client import MAX_BYTES, MAX_FILES, Credentials, Deadlines, Version
from calsvc.registry.local import LocalStore
from calsvc.registry.mlflow_rest import MlflowRest
from calsvc.registry.opening import open_registry

pytestmark = pytest.mark.anyio

HASTE = Deadlines(connect=0.5, resolve=0.5, download=0.5)
"""For servers that never end."""
PATIENT = Deadlines(connect=30.0, resolve=30.0, download=30.0, child=60.0)
ALIAS = "/api/2.0/mlflow/registered-models/alias"
DOWNLOAD_URI = "/api/2.0/mlflow/model-versions/get-download-uri"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
FOUND = {
    "model_version": {
        "name": "calories",
        "version": "3",
        "creation_timestamp": 1790000000500,
        "source": "mlflow-artifacts:/1/abc/artifacts/bundle",
        "run_id": "abc",
        "aliases": ["champion"],
        "tags": [{"key": "rmsle", "value": "0.06"}],
        "status": "READY",
    }
}
VERSION = Version(
    "calories", "3", "abc", "mlflow-artifacts:/1/abc/artifacts/bundle", ("champion",), 1790000000.5, {"rmsle": "0.06"}
)

Talk = Callable[[ByteStream, bytes], Awaitable[None]]
"""Answers one request, which has been read; the connection is closed afterwards."""


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the service runs on, without its faster implementation."""
    return "asyncio"


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[str]:
    """Listen on a free port; yield the address."""

    async def handle(stream: ByteStream) -> None:
        async with stream:
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += await stream.receive()
                await talk(stream, request)
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                pass  # the client has given up

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()
    await listener.aclose()


def reply(content: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a complete HTTP response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def says(answer: bytes) -> Talk:
    """Answer everything with these bytes."""

    async def talk(stream: ByteStream, _: bytes) -> None:
        await stream.send(answer)

    return talk


def pages(content: Mapping[str, Any]) -> Talk:
    """Answer as a server of these pages, by path or by path and query: bytes, or what becomes JSON."""

    async def talk(stream: ByteStream, request: bytes) -> None:
        target = request.split()[1].decode()
        found = content.get(target, content.get(urlsplit(target).path))
        if found is None:
            await stream.send(reply(b"<html>nothing here</html>", "404 Not Found"))
        else:
            await stream.send(reply(found if isinstance(found, bytes) else json.dumps(found).encode()))

    return talk


def proxied(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the pages of a server that hands out files (by path) of `VERSION`."""
    root = "1/abc/artifacts/bundle"
    content: dict[str, Any] = {
        ALIAS: FOUND,
        DOWNLOAD_URI: {"artifact_uri": f"mlflow-artifacts:/{root}"},
        f"{PROXY}?path={root.replace('/', '%2F')}": {
            "files": [{"path": name, "is_dir": False, "file_size": len(data)} for name, data in files.items()]
        },
    }
    return content | {f"{PROXY}/{root}/{name}": data for name, data in files.items()}


async def resolved(uri: str, deadlines: Deadlines = PATIENT) -> Version | None:
    """Ask once."""
    registry = open_registry(uri, deadlines=deadlines)
    try:
        return await registry.resolve("calories", "champion")
    finally:
        await registry.aclose()


async def downloaded(uri: str, into: Path, version: Version = VERSION, deadlines: Deadlines = PATIENT) -> set[str]:
    """Download once; return what came, as paths."""
    await anyio.Path(into).mkdir()
    registry = open_registry(uri, deadlines=deadlines)
    try:
        await registry.download(version, into)
    finally:
        await registry.aclose()
    return files_in(into)


def files_in(folder: Path) -> set[str]:
    """Return the paths of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_an_alias_is_resolved_to_its_version() -> None:
    """With the time in seconds, and whatever else the server adds ignored."""
    async with server(pages({f"{ALIAS}?name=calories&alias=champion": FOUND})) as uri:
        assert await resolved(uri) == VERSION


@pytest.mark.parametrize(
    ("status", "code"), [("404 Not Found", "RESOURCE_DOES_NOT_EXIST"), ("400 Bad Request", "INVALID_PARAMETER_VALUE")]
)
async def test_a_model_or_alias_that_is_not_there_is_an_answer(status: str, code: str) -> None:
    """Not an error: a challenger need not exist."""
    content = json.dumps({"error_code": code, "message": "not found"}).encode()
    async with server(says(reply(content, status))) as uri:
        assert await resolved(uri) is None


async def hang(_: ByteStream, __: bytes) -> None:
    """Say nothing for as long as anybody waits."""
    await anyio.sleep_forever()


async def trickle(stream: ByteStream, _: bytes) -> None:
    """Send one byte again and again: each wait is short, all of them never end."""
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        await stream.send(b" ")
        await anyio.sleep(0.01)


async def flood(stream: ByteStream, _: bytes) -> None:
    """Send without end."""
    await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send(b"x" * 65536)


MISBEHAVIOUR: dict[str, tuple[Talk, str]] = {
    "slow": (hang, "does not answer in time"),
    "trickling": (trickle, "does not answer in time"),
    "endless": (flood, "does not stop answering"),
    "closed": (says(b""), "is out of reach"),
    "half": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "is out of reach"),
    "no HTTP": (says(b"SSH-2.0-Nothing\r\n"), "is out of reach"),
    "HTML": (says(reply(b"<html>welcome</html>")), "does not answer as MLflow does"),
    "not text": (says(reply(b"\xff\xfe\x00")), "does not answer as MLflow does"),
    "other JSON": (says(reply(b'{"model_version": {"name": 3}}')), "does not answer as MLflow does"),
    "empty": (says(reply(b"")), "does not answer as MLflow does"),
    "broken": (says(reply(b"oops", "500 Internal Server Error")), "answers with status 500"),
    "busy": (says(reply(b"", "503 Service Unavailable")), "answers with status 503"),
    "another server": (says(reply(b"<html>?</html>", "404 Not Found")), "answers with status 404"),
    "redirecting": (says(reply(b"", "302 Found", "Location: http://other/")), "302, a redirect to http://other/"),
    "forbidding": (says(reply(b'{"message": "who are you?"}', "403 Forbidden")), "status 403, who are you?"),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
async def test_whatever_a_server_does_ends_in_one_error(name: str, tmp_path: Path) -> None:
    """For both calls; the message names the server and what happened."""
    talk, message = MISBEHAVIOUR[name]
    async with server(talk) as uri:
        deadlines = HASTE if "in time" in message else PATIENT
        for call in (resolved(uri, deadlines), downloaded(uri, tmp_path / "into", deadlines=deadlines)):
            with pytest.raises(RegistryError, match=f"the registry {uri} .*{message.replace('?', '[?]')}"):
                await call


async def test_no_server_at_all_is_one_error() -> None:
    """Nobody listens on this port any more."""
    async with server(hang) as uri:
        pass
    with pytest.raises(RegistryError, match=f"the registry {uri} is out of reach"):
        await resolved(uri)


async def test_the_files_of_a_version_are_downloaded_byte_by_byte(tmp_path: Path) -> None:
    """Large ones, empty ones, and names that have to be quoted in a URL."""
    files = {"bundle.json": b"{}", "model.onnx": bytes(range(256)) * 4000, "empty": b"", "a b.json": b"\r\n"}
    content = proxied(files)
    content[f"{PROXY}/1/abc/artifacts/bundle/a%20b.json"] = files["a b.json"]
    async with server(pages(content)) as uri:
        assert await downloaded(uri, tmp_path / "into") == set(files)
    for name, data in files.items():
        assert (tmp_path / "into" / name).read_bytes() == data


async def test_folders_are_followed(tmp_path: Path) -> None:
    """And listings that name the whole path are understood."""
    root = "1%2Fabc%2Fartifacts%2Fbundle"
    content = proxied({"a": b"1"})
    content[f"{PROXY}?path={root}"]["files"].append({"path": "1/abc/artifacts/bundle/sub", "is_dir": True})
    content[f"{PROXY}?path={root}%2Fsub"] = {"files": [{"path": "b", "is_dir": False}]}
    content[f"{PROXY}/1/abc/artifacts/bundle/sub/b"] = b"2"
    async with server(pages(content)) as uri:
        assert await downloaded(uri, tmp_path / "into") == {"a", "sub/b"}


@pytest.mark.parametrize(
    ("source", "download_uri", "listing", "get"),
    [
        (
            "runs:/abc/bundle",
            "runs:/abc/bundle",
            ("/api/2.0/mlflow/artifacts/list?run_id=abc&path=bundle", "bundle/x"),
            "/get-artifact?run_id=abc&path=bundle%2Fx",
        ),
        (
            "/srv/artifacts/abc/bundle",
            "file:///srv/artifacts/abc/bundle",
            ("/api/2.0/mlflow/artifacts/list?run_id=abc&path=bundle", "bundle/x"),
            "/get-artifact?run_id=abc&path=bundle%2Fx",
        ),
        (
            "models:/m-77",
            "/srv/artifacts/models/m-77/artifacts",
            ("/api/2.0/mlflow/logged-models/m-77/artifacts/directories", "x"),
            "/ajax-api/2.0/mlflow/logged-models/m-77/artifacts/files?artifact_file_path=x",
        ),
    ],
    ids=["run", "the server's own disk", "logged model"],
)
async def test_files_kept_elsewhere_come_through_the_server(
    tmp_path: Path, source: str, download_uri: str, listing: tuple[str, str], get: str
) -> None:
    """By the routes that belong to the place."""
    content = {
        DOWNLOAD_URI: {"artifact_uri": download_uri},
        "/api/2.0/mlflow/artifacts/list?run_id=abc": {"root_uri": "/srv/artifacts/abc/"},
        listing[0]: {"files": [{"path": listing[1], "is_dir": False, "file_size": "3"}]},
        get: b"123",
    }
    async with server(pages(content)) as uri:
        assert await downloaded(uri, tmp_path / "into", VERSION._replace(source=source)) == {"x"}
    assert (tmp_path / "into" / "x").read_bytes() == b"123"


@pytest.mark.parametrize(
    "download_uri", ["s3://bucket/bundle", "mlflow-artifacts://other:1/x", "/srv/other/bundle", ""]
)
async def test_files_out_of_the_servers_reach_are_an_error(tmp_path: Path, download_uri: str) -> None:
    """It says where they are."""
    content = {
        DOWNLOAD_URI: {"artifact_uri": download_uri},
        "/api/2.0/mlflow/artifacts/list": {"root_uri": "/srv/artifacts/abc"},
    }
    async with server(pages(content)) as uri:
        with pytest.raises(RegistryError, match=f"keeps calories version 3 at {download_uri}, out of reach"):
            await downloaded(uri, tmp_path / "into")


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "..", ".", "", "a\\b", "a\0b", "elsewhere/evil", "bundle/../evil"]
)
async def test_a_listing_cannot_name_anything_outside(tmp_path: Path, path: str) -> None:
    """Such a name ends the download before anything is written."""
    content = proxied({"bundle.json": b"{}"})
    listing = next(page for page in content.values() if isinstance(page, dict) and "files" in page)
    for is_dir in (True, False):
        listing["files"].append({"path": path, "is_dir": is_dir})
        async with server(pages(content)) as uri:
            with pytest.raises(RegistryError, match="lists a file"):
                await downloaded(uri, tmp_path / f"into-{is_dir}")
        listing["files"].pop()
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    "files",
    [
        [{"path": f"f{number}"} for number in range(MAX_FILES + 1)],
        [{"path": "large", "file_size": MAX_BYTES + 1}],
        [{"path": f"large{number}", "file_size": str(MAX_BYTES // 2 + 1)} for number in range(2)],
        [{"path": "deep", "is_dir": True}],
    ],
    ids=["files", "bytes", "bytes together", "folders without end"],
)
async def test_too_much_is_refused_by_its_listing(tmp_path: Path, files: list[dict[str, Any]]) -> None:
    """Before the first byte is fetched; every folder has the same listing here."""
    content = {DOWNLOAD_URI: {"artifact_uri": "mlflow-artifacts:/x"}, PROXY: {"files": files}}
    async with server(pages(content)) as uri:
        with pytest.raises(RegistryError, match=f"more than {MAX_FILES} files"):
            await downloaded(uri, tmp_path / "into")
    assert files_in(tmp_path) == set()


async def test_more_bytes_than_listed_are_refused_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing may lie, or say nothing about sizes."""
    monkeypatch.setattr("calsvc.registry.mlflow_rest.MAX_BYTES", 1000)
    content = proxied({"a": b"x" * 600, "b": b"x" * 600})
    listing = next(page for page in content.values() if isinstance(page, dict) and "files" in page)
    for each in listing["files"]:
        del each["file_size"]
    async with server(pages(content)) as uri:
        with pytest.raises(RegistryError, match=f"the registry {uri} sends more than"):
            await downloaded(uri, tmp_path / "into")


async def test_a_version_without_files_is_an_error(tmp_path: Path) -> None:
    """As after a clean-up of the artifact store."""
    async with server(pages(proxied({}))) as uri:
        with pytest.raises(RegistryError, match=r"calories version 3 in the registry .* has no files"):
            await downloaded(uri, tmp_path / "into")


async def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    """The connection breaks in the middle of the model."""
    answer = pages(proxied({"model.onnx": b"x" * 1000}))

    async def talk(stream: ByteStream, request: bytes) -> None:
        if b"model.onnx" in request:
            await stream.send(reply(b"x" * 1000)[:-1])
        else:
            await answer(stream, request)

    async with server(talk) as uri:
        with pytest.raises(RegistryError, match=f"the registry {uri} is out of reach"):
            await downloaded(uri, tmp_path / "into")


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (Credentials(token="t0ken"), b"Bearer t0ken"),  # noqa: S106
        (Credentials(username="me", password="secret"), b"Basic bWU6c2VjcmV0"),  # noqa: S106
        (Credentials(), None),
    ],
    ids=["token", "password", "none"],
)
async def test_credentials_go_along(credentials: Credentials, header: bytes | None) -> None:
    """As a protected server wants them."""
    requests = []

    async def talk(stream: ByteStream, request: bytes) -> None:
        requests.append(request)
        await stream.send(reply(json.dumps(FOUND).encode()))

    async with server(talk) as uri:
        registry = MlflowRest(uri, credentials, PATIENT)
        assert await registry.resolve("calories", "champion") == VERSION
        await registry.aclose()
    (request,) = requests
    sent = [line.partition(b": ")[2] for line in request.split(b"\r\n") if line.lower().startswith(b"authorization")]
    assert sent == ([header] if header else [])


async def test_a_password_in_the_address_is_used_and_not_shown() -> None:
    """Messages end up in logs."""
    async with server(says(reply(b"", "401 Unauthorized"))) as uri:
        with pytest.raises(RegistryError) as caught:
            await resolved(uri.replace("//", "//me:secret@"))
    assert f"the registry {uri} " in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_server_may_live_below_a_path() -> None:
    """Behind a proxy that serves other things too."""
    async with server(pages({f"/mlflow{ALIAS}": FOUND})) as uri:
        assert await resolved(f"{uri}/mlflow") == VERSION
        assert await resolved(f"{uri}/mlflow/") == VERSION


@pytest.mark.parametrize(
    "uri", ["http://[::1", "ftp://somewhere", "mlruns", "https://:s3cret@:y", "http://me:s3cret/pass@h", "s3cret@host"]
)
def test_an_address_that_is_none_is_an_error(uri: str) -> None:
    """One line at the start, not a traceback, and of a password nothing."""
    with pytest.raises(RegistryError, match="registry") as caught:
        open_registry(uri)
    assert "s3cret" not in str(caught.value)


# --- without a server -------------------------------------------------------------------------------------------------


def child(folder: Path, program: str) -> tuple[str, ...]:
    """Return a command that stands for the process that reads the database."""
    file = folder / "child.py"
    file.write_text(program)
    return (sys.executable, str(file))


COUNTING = """
import sys
from pathlib import Path
import msgspec
calls = Path(__file__).with_name("calls")
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
print("a library says hello")
version = ["calories", "1", None, "file:///nowhere", ["champion"], 1.5, {}]
print(msgspec.json.encode({"versions": {"champion": version}}).decode())
"""


async def test_the_database_is_read_only_when_it_has_changed(tmp_path: Path) -> None:
    """Once for both aliases, and again after a change of the database or of what SQLite writes beside it."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"1")
    store = LocalStore(f"sqlite:///{database}", PATIENT, child(tmp_path, COUNTING))
    for _ in range(3):
        assert await store.resolve("calories", "champion")
        assert await store.resolve("calories", "challenger") is None
    assert (tmp_path / "calls").read_text() == "x"
    database.write_bytes(b"22")
    await store.resolve("calories", "champion")
    assert (tmp_path / "calls").read_text() == "xx"
    database.with_name("mlflow.db-wal").write_bytes(b"3")
    await store.resolve("calories", "champion")
    assert (tmp_path / "calls").read_text() == "xxx"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import time; time.sleep(600)", "MLflow did not read .* in time"),
        ("raise SystemExit('no such table')", "MLflow cannot read .*: no such table"),
        ("print('garbage')", "MLflow cannot read .*: exit code 0"),
        ('print(\'{"error": "it is locked"}\')', "MLflow cannot read .*: it is locked"),
    ],
    ids=["hangs", "dies", "garbage", "error"],
)
async def test_a_process_that_fails_is_one_error(tmp_path: Path, program: str, message: str) -> None:
    """And the process is gone."""
    (tmp_path / "mlflow.db").touch()
    deadlines = Deadlines(child=0.5) if "sleep" in program else PATIENT
    store = LocalStore(f"sqlite:///{tmp_path}/mlflow.db", deadlines, child(tmp_path, program))
    with pytest.raises(RegistryError, match=message):
        await store.resolve("calories", "champion")


async def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    """MLflow would make an empty one."""
    with pytest.raises(RegistryError, match=r"there is no registry at sqlite:///.*mlflow\.db"):
        await open_registry(f"sqlite:///{tmp_path}/mlflow.db").resolve("calories", "champion")
    assert files_in(tmp_path) == set()


async def test_without_the_train_extra_the_message_says_what_to_install(tmp_path: Path) -> None:
    """The process runs where MLflow cannot be imported."""
    (tmp_path / "mlflow.db").touch()
    program = "import sys; sys.modules['mlflow'] = None\nfrom calsvc.registry.local import main; sys.exit(main())"
    store = LocalStore(f"sqlite:///{tmp_path}/mlflow.db", PATIENT, child(tmp_path, program))
    with pytest.raises(RegistryError, match="uv sync --extra train"):
        await store.resolve("calories", "champion")


@pytest.mark.parametrize("form", ["{path}", "file://{path}", "mlflow-artifacts:/1/bundle"])
async def test_local_files_are_copied(tmp_path: Path, form: str) -> None:
    """Wherever their address says they are; `mlflow-artifacts:/` is the folder beside the database."""
    kept = tmp_path / "artifacts" / "1" / "bundle"
    (kept / "sub").mkdir(parents=True)
    (kept / "bundle.json").write_bytes(b"{}")
    (kept / "sub" / "x").write_bytes(b"1")
    version = VERSION._replace(source=form.format(path=kept))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert await downloaded(uri, tmp_path / "into", version) == {"bundle.json", "sub/x"}


async def test_local_files_that_are_no_bundle_are_refused(tmp_path: Path) -> None:
    """Gone, too many, too large, or links to somewhere else."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    kept = tmp_path / "kept"
    version = VERSION._replace(source=str(kept))

    numbers = itertools.count()

    async def refused(message: str, version: Version = version) -> None:
        into = tmp_path / f"into-{next(numbers)}"
        with pytest.raises(RegistryError, match=message):
            await downloaded(uri, into, version)
        assert files_in(into) == set()

    await refused("has no files at .*kept")
    await refused("not on this machine", version._replace(source="s3://bucket/bundle"))
    kept.mkdir()
    (kept / "link").symlink_to("/etc/hostname")
    await refused("link, which is no file")
    (kept / "link").unlink()
    with (kept / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    await refused("more than")
    (kept / "large").unlink()
    for number in range(MAX_FILES + 1):
        (kept / str(number)).touch()
    await refused("more than")

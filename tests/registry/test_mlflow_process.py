"""MLflow's own client in a process of its own, against small servers that behave, misbehave, or are not there."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from calsvc.http.errors import RegistryError
from calsvc.registry.client import MAX_FILES, Deadlines, Version
from calsvc.registry.mlflow_child import failure
from calsvc.registry.mlflow_process import CHILD, MlflowProcess
from tests.service_process import PATIENCE, ROOT

pytestmark = pytest.mark.anyio

PATIENT = Deadlines(PATIENCE, PATIENCE, PATIENCE)
HASTE = Deadlines(resolve=2.5, download=2.5, start=PATIENCE)
"""For servers that never end."""
ALIAS = "/api/2.0/mlflow/registered-models/alias"
MODEL = "/api/2.0/mlflow/registered-models/get"
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
        MODEL: {"registered_model": {"name": "calories"}},
        DOWNLOAD_URI: {"artifact_uri": f"mlflow-artifacts:/{root}"},
        f"{PROXY}?path={root.replace('/', '%2F')}": {
            "files": [{"path": name, "is_dir": False, "file_size": len(data)} for name, data in files.items()]
        },
    }
    return content | {f"{PROXY}/{root}/{name}": data for name, data in files.items()}


@asynccontextmanager
async def registry(
    uri: str, deadlines: Deadlines = PATIENT, command: tuple[str, ...] = CHILD
) -> AsyncIterator[MlflowProcess]:
    """Yield a registry whose process ends with the block."""
    opened = MlflowProcess(uri, deadlines, command)
    try:
        yield opened
    finally:
        await opened.aclose()


async def resolved(uri: str) -> Version | None:
    """Ask once."""
    async with registry(uri) as opened:
        return await opened.resolve("calories", "champion")


def pid_of(opened: MlflowProcess) -> int:
    """Return the id of the process that is asked."""
    assert opened.pid is not None
    return opened.pid


def names_in(folder: Path) -> set[str]:
    """Return the names of all that is in a folder."""
    return {each.name for each in folder.iterdir()}


def files_in(folder: Path) -> set[str]:
    """Return the paths of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def has_ended(pid: int) -> bool:
    """Tell whether there is no such process, or only what its parent has not been told of."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for_end(pid: int) -> None:
    """Poll until a process has ended."""
    while not has_ended(pid):
        time.sleep(0.01)


class Switch:
    """Answers as it is set to; keeps what it is asked."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.requests: list[bytes] = []

    async def __call__(self, stream: ByteStream, request: bytes) -> None:
        """See `Talk`."""
        self.requests.append(request)
        await self.talk(stream, request)


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
    "closed": (says(b""), "cannot be read: .*Remote end closed connection"),
    "half": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "cannot be read: .*IncompleteRead"),
    "no HTTP": (says(b"SSH-2.0-Nothing\r\n"), "cannot be read: .*SSH-2.0-Nothing"),
    "HTML": (says(reply(b"<html>welcome</html>")), "cannot be read: .* not in a valid JSON format"),
    "not text": (says(reply(b"\xff\xfe\x00")), "cannot be read: .* not in a valid JSON format"),
    "other JSON": (says(reply(b'{"model_version": {"name": [3]}}')), "(cannot be read: |has no files)"),
    "empty": (says(reply(b"")), "(cannot be read: it does not answer as MLflow does|has no files)"),
    "broken": (says(reply(b"oops", "500 Internal Server Error")), "cannot be read: .*too many 500 error responses"),
    "busy": (says(reply(b"", "503 Service Unavailable")), "cannot be read: .*too many 503 error responses"),
    "another server": (says(reply(b"<html>?</html>", "404 Not Found")), "cannot be read: .* error code 404"),
    "redirecting": (
        says(reply(b"", "302 Found", "Location: http://127.0.0.1:1/")),
        "cannot be read: .* error code 302",
    ),
    "forbidding": (says(reply(b'{"message": "who are you?"}', "403 Forbidden")), "cannot be read: .*who are you[?]"),
    "password": (says(reply(b"", "401 Unauthorized")), "cannot be read: .* error code 401"),
}
ENDLESS: dict[str, tuple[Talk, str]] = {
    "trickling": (trickle, "does not answer in time"),
    "flooding": (flood, "(does not answer in time|cannot be read: |the process that asks it is lost)"),
}


async def test_whatever_a_server_does_is_one_error(tmp_path: Path) -> None:
    """For both calls, asked by one process; the message names the server without its password, and what happened."""
    switch = Switch(hang)
    async with server(switch) as uri, registry(uri.replace("//", "//me:s3cr@et@"), HASTE) as opened:
        pids = set[int]()
        calls = (lambda: opened.resolve("calories", "champion"), lambda: opened.download(VERSION, tmp_path))
        for (talk, message), call in itertools.product(MISBEHAVIOUR.values(), calls):
            switch.talk = talk
            with pytest.raises(RegistryError, match=f"^the registry {uri} {message}") as caught:
                await call()
            assert "s3cr" not in str(caught.value)
            pids.add(pid_of(opened))
        assert len(pids) == 1
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_answer_without_end_is_one_error(name: str) -> None:
    """The process is killed, or has no memory left; the next call finds another one."""
    talk, message = ENDLESS[name]
    switch = Switch(talk)
    async with server(switch) as uri, registry(uri, HASTE) as opened:
        with pytest.raises(RegistryError, match=f"^the registry {uri}:? {message}"):
            await opened.resolve("calories", "champion")
        switch.talk = pages({ALIAS: FOUND})
        assert await opened.resolve("calories", "champion") == VERSION


async def test_a_model_or_alias_that_is_not_there_is_an_answer() -> None:
    """Not an error: a challenger need not exist. A server may live below a path, and be gone the next moment."""
    absent = {"404 Not Found": "RESOURCE_DOES_NOT_EXIST", "400 Bad Request": "INVALID_PARAMETER_VALUE"}
    switch = Switch(pages({f"/mlflow{ALIAS}?name=calories&alias=champion": FOUND}))
    async with server(switch) as uri, registry(f"{uri}/mlflow/") as opened:
        assert await opened.resolve("calories", "champion") == VERSION
        for status, code in absent.items():
            content = json.dumps({"error_code": code, "message": "not found"}).encode()
            switch.talk = says(reply(content, status))
            assert await opened.resolve("calories", "champion") is None
    async with registry(uri) as opened:
        with pytest.raises(RegistryError, match=f"the registry {uri} cannot be read: .*refused"):
            await opened.resolve("calories", "champion")


@pytest.mark.parametrize(
    ("environ", "header"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, b"Bearer t0ken"),
        ({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3cret"}, b"Basic bWU6czNjcmV0"),
    ],
    ids=["token", "password"],
)
async def test_credentials_go_along(environ: dict[str, str], header: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the server; nobody sees them in the command line, and the process gets no other variable of the service."""
    others = dict.fromkeys(("CALSVC_TOKEN", "OTEL_EXPORTER_OTLP_ENDPOINT", "PYROSCOPE_SERVER_ADDRESS"), "hidden")
    for name, value in (environ | others).items():
        monkeypatch.setenv(name, value)
    switch = Switch(pages({ALIAS: FOUND}))
    async with server(switch) as uri, registry(uri) as opened:
        assert await opened.resolve("calories", "champion") == VERSION
        process = Path(f"/proc/{pid_of(opened)}")
        assert not [value for value in environ.values() if value.encode() in (process / "cmdline").read_bytes()]
        assert b"hidden" not in (process / "environ").read_bytes()
    sent = [line for line in switch.requests[0].split(b"\r\n") if line.lower().startswith(b"authorization")]
    assert sent == [b"Authorization: " + header]


@pytest.mark.parametrize(
    "uri", ["http://[::1", "ftp://somewhere", "mlruns", "https://:s3cret@:y", "http://me:s3cret/pass@h", "s3cret@host"]
)
def test_an_address_that_is_none_is_an_error(uri: str) -> None:
    """One line at the start, not a traceback, and of a password nothing."""
    with pytest.raises(RegistryError, match="registry") as caught:
        MlflowProcess(uri)
    assert "s3cret" not in str(caught.value)


# --- files ------------------------------------------------------------------------------------------------------------


async def test_the_files_of_a_version_are_downloaded_byte_by_byte(tmp_path: Path) -> None:
    """Large ones, empty ones, folders, and names that have to be quoted in a URL; but not what lies about its place."""
    root = "1%2Fabc%2Fartifacts%2Fbundle"
    files = {"bundle.json": b"{}", "model.onnx": bytes(range(256)) * 4000, "empty": b"", "a b.json": b"\r\n"}
    content = proxied(files)
    content[f"{PROXY}/1/abc/artifacts/bundle/a%20b.json"] = files["a b.json"]
    content[f"{PROXY}?path={root}"]["files"].append({"path": "sub", "is_dir": True})
    content[f"{PROXY}?path={root}%2Fsub"] = {"files": [{"path": "b", "is_dir": False}]}
    content[f"{PROXY}/1/abc/artifacts/bundle/sub/b"] = b"2"
    switch = Switch(pages(content))
    async with server(switch) as uri, registry(uri) as opened:
        (tmp_path / "good").mkdir()
        await opened.download(VERSION, tmp_path / "good")
        assert {name: (tmp_path / "good" / name).read_bytes() for name in files} == files
        assert files_in(tmp_path / "good") == {*files, "sub/b"}
        for number, path in enumerate(["../evil", "/etc/evil", "a/../../evil", "..", "a\\..\\..\\evil", "%2e%2e/evil"]):
            for is_dir in (True, False):
                lying = proxied({"bundle.json": b"{}"})
                lying[f"{PROXY}?path={root}"]["files"].append({"path": path, "is_dir": is_dir})
                switch.talk = pages(lying)
                (into := tmp_path / f"{number}-{is_dir}").mkdir()
                with pytest.raises(RegistryError, match=f"the registry {uri} "):
                    await opened.download(VERSION, into)
    assert {name for name in files_in(tmp_path) if "evil" in name} == set()
    assert len(names_in(tmp_path)) == 13


async def test_too_much_and_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, too many bytes, bytes without end, a file that is cut off, no file at all."""
    monkeypatch.setattr("calsvc.registry.mlflow_process.MAX_BYTES", 2**20)
    whole = pages(proxied({"model.onnx": b"x" * 1000}))

    def by_file(answer: Talk) -> Talk:
        async def talk(stream: ByteStream, request: bytes) -> None:
            await (answer if b"bundle/model.onnx" in request else whole)(stream, request)

        return talk

    cases: dict[str, tuple[Talk, str]] = {
        "many": (
            pages(proxied({f"f{number}": b"" for number in range(MAX_FILES + 1)})),
            f"has more than {MAX_FILES} files",
        ),
        "large": (pages(proxied({"a": b"x" * 2**19, "b": b"x" * 2**19, "c": b"x"})), "has more than"),
        "endless": (by_file(flood), "has more than"),
        "cut off": (by_file(says(reply(b"x" * 1000)[:-1])), "cannot be read: "),
        "gone": (by_file(says(reply(b"", "404 Not Found"))), "cannot be read: .*404"),
        "none": (pages(proxied({})), "has no files of calories version 3: were they deleted"),
    }
    switch = Switch(hang)
    async with server(switch) as uri, registry(uri) as opened:
        for name, (talk, message) in cases.items():
            switch.talk = talk
            (into := tmp_path / name).mkdir()
            with pytest.raises(RegistryError, match=f"the registry {uri} {message}"):
                await opened.download(VERSION, into)


# --- a process that dies ----------------------------------------------------------------------------------------------


async def test_a_process_that_is_killed_while_it_downloads_is_one_error(tmp_path: Path) -> None:
    """And the next call finds another one. A call that is cancelled takes its process along."""
    asked = anyio.Event()

    async def notice(_: ByteStream, __: bytes) -> None:
        asked.set()
        await anyio.sleep_forever()

    switch = Switch(notice)
    async with server(switch) as uri, registry(uri) as opened:
        async with anyio.create_task_group() as tasks:

            async def kill() -> None:
                await asked.wait()
                os.kill(pid_of(opened), signal.SIGKILL)

            tasks.start_soon(kill)
            with pytest.raises(RegistryError, match=f"the registry {uri}: the process that asks it is lost"):
                await opened.download(VERSION, tmp_path)
        asked = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(opened.resolve, "calories", "champion")
            await asked.wait()
            pid = pid_of(opened)
            tasks.cancel_scope.cancel()
        assert has_ended(pid)
        switch.talk = pages({ALIAS: FOUND})
        assert await opened.resolve("calories", "champion") == VERSION


LEAVE = """
import os, sys
import anyio
from calsvc.registry.mlflow_process import MlflowProcess

async def main():
    registry = MlflowProcess(sys.argv[1])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(registry.resolve, "calories", "champion")
        while registry.pid is None:
            await anyio.sleep(0.01)
        print(registry.pid, flush=True)

anyio.run(main)
"""


async def test_a_process_does_not_outlive_its_parent() -> None:
    """Not even while it waits for a server that hangs."""
    asked = anyio.Event()

    async def notice(_: ByteStream, __: bytes) -> None:
        asked.set()
        await anyio.sleep_forever()

    async with (
        server(notice) as uri,
        await anyio.open_process([sys.executable, "-c", LEAVE, uri], stdout=subprocess.PIPE) as parent,
    ):
        assert parent.stdout is not None
        pid = int(await parent.stdout.receive())
        with anyio.fail_after(PATIENCE):
            await asked.wait()
            assert not has_ended(pid)
            parent.kill()
            await anyio.to_thread.run_sync(wait_for_end, pid, abandon_on_cancel=True)


def child(folder: Path, program: str) -> tuple[str, ...]:
    """Return a command that stands for the process."""
    (folder / "child.py").write_text(program)
    return (sys.executable, str(folder / "child.py"))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import time; time.sleep(600)", "does not answer in time"),
        ("raise SystemExit(1)", "the process that asks it is lost: it ended without an answer"),
        ("print('garbage')", "the process that asks it is lost: its answer is not of the protocol"),
        ("print('{}', flush=True); input(); raise SystemExit(1)", "the process that asks it is lost: it ended"),
        ("print('{}', flush=True); input(); input()", "does not answer in time"),
    ],
    ids=["hangs", "dies", "garbage", "dies later", "hangs later"],
)
async def test_a_process_that_fails_is_one_error(tmp_path: Path, program: str, message: str) -> None:
    """And the process is gone."""
    deadlines = Deadlines(*[0.5] * 3) if "in time" in message else PATIENT
    opened = MlflowProcess("http://127.0.0.1:1", deadlines, child(tmp_path, program))
    with pytest.raises(RegistryError, match=f"the registry http://127.0.0.1:1:? {message}"):
        await opened.resolve("calories", "champion")
    assert opened.pid is None


@pytest.mark.parametrize(
    ("uri", "missing", "extra"),
    [("http://127.0.0.1:1", "mlflow", "registry"), ("sqlite:///here.db", "sqlalchemy", "train")],
)
async def test_without_mlflow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, missing: str, extra: str
) -> None:
    """The process runs where it, or what it needs for a database, cannot be imported."""
    program = f"import sys; sys.modules['{missing}'] = None; from calsvc.registry.mlflow_child import main; main()"
    command = (sys.executable, "-c", program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "here.db").touch()
    async with registry(uri, PATIENT, command) as opened:
        with pytest.raises(RegistryError, match=f"{missing} is not installed here: uv sync --extra {extra}"):
            await opened.resolve("calories", "champion")


def test_what_mlflow_says_is_cut_after_its_passwords_are_removed() -> None:
    """Cut before, a long text could end between a password and the sign that it is one."""
    shown = failure(OSError(f"{'x ' * 140}http://me:s3cret-{'y' * 40}@host/api failed")).error
    assert len(shown) == 300
    assert "s3cret" not in shown


async def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    """MLflow would make an empty one."""
    with pytest.raises(RegistryError, match=r"there is no registry at sqlite:///.*mlflow\.db"):
        await resolved(f"sqlite:///{tmp_path}/mlflow.db")
    assert files_in(tmp_path) == set()

"""A real MLflow server and a real embedded store: every kind of place, byte by byte; gone, slow, and back again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from calsvc.http.errors import RegistryError
from calsvc.model.bundle import Bundle
from calsvc.registry.cache import BundleCache
from calsvc.registry.client import MAX_BYTES, MAX_FILES, Deadlines, Version
from calsvc.registry.mlflow_process import MlflowProcess
from tests.making import Trained
from tests.service_process import PATIENCE, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

QUIET = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
API = "api/2.0/mlflow"
PATIENT = Deadlines(PATIENCE, PATIENCE, PATIENCE)

REGISTER = """
import json, sys
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

uri, bundle, disk, beside = sys.argv[1:]
client = MlflowClient(uri, uri)
client.create_registered_model("calories")
made = {}

def register(alias, source, **more):
    version = client.create_model_version("calories", source, tags={"by": alias}, **more).version
    client.set_registered_model_alias("calories", alias, version)
    made[alias] = str(version)

def register_all(place, *aliases):
    experiment = client.create_experiment(place or "default", place or None)
    run = client.create_run(experiment).info
    client.log_artifacts(run.run_id, bundle, "bundle")
    model = client.create_logged_model(experiment, "calories").model_id
    client.log_model_artifacts(model, bundle)
    client.finalize_logged_model(model, "READY")
    register(aliases[0], f"{run.artifact_uri}/bundle", run_id=run.run_id)
    register(aliases[1], f"runs:/{run.run_id}/bundle", run_id=run.run_id)
    register(aliases[2], f"models:/{model}", model_id=model)
"""
REGISTER_ON_SERVER = """
register_all("", "champion", "by_run", "logged")
"""
REGISTER_ON_DISK = """
register_all(disk, "disk", "disk_by_run", "disk_logged")
"""
REGISTER_BESIDE = """
run = client.create_run(client.create_experiment("beside", "mlflow-artifacts:/calories")).info
path = run.artifact_uri.removeprefix("mlflow-artifacts:")
get_artifact_repository(f"{beside}{path}/bundle").log_artifacts(bundle)
register("champion", f"{run.artifact_uri}/bundle", run_id=run.run_id)
"""
TELL = """
print(json.dumps(made))
"""


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the service runs on, without its faster implementation."""
    return "asyncio"


def register(*parts: str, uri: str, bundle: Path, folder: Path) -> dict[str, str]:
    """Run a program of MLflow's client in a process of its own; return what it registered, version by alias."""
    program = "".join((REGISTER, *parts, TELL))
    arguments = [uri, str(bundle), (folder / "disk").as_uri(), (folder / "artifacts").as_uri()]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | QUIET,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return made


class MlflowServer:
    """`python -m mlflow server` on a free port, with its database and its artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--serve-artifacts"]
        arguments += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        arguments += ["--artifacts-destination", (self.folder / "artifacts").as_uri()]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments],
                env=os.environ | QUIET,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,  # its workers are its children, and have to go with it
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=PATIENCE):  # noqa: S310
                    return
            except OSError:
                time.sleep(0.05)  # the port is not open yet
        raise TimeoutError((self.folder / "server.log").read_text())

    def signal(self, which: signal.Signals) -> None:
        """Signal the server and its workers."""
        assert self._process is not None
        os.killpg(self._process.pid, which)

    def stop(self) -> None:
        """Kill it and wait for its end."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def call(self, method: str, route: str, **body: str) -> None:
        """Change something through the REST API."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.uri}/{API}/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310
            pass


@pytest.fixture(scope="module")
def server(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server with a version of the trained bundle in every kind of place, under an alias each."""
    running = MlflowServer(tmp_path_factory.mktemp("mlflow server"))
    try:
        running.start()
        running.versions = register(
            REGISTER_ON_SERVER,
            REGISTER_ON_DISK,
            uri=running.uri,
            bundle=trained.bundle.folder,
            folder=running.folder,
        )
        yield running
    finally:
        running.stop()


async def fetched(uri: str, alias: str, folder: Path) -> tuple[Version, Bundle]:
    """Resolve an alias and fetch its bundle."""
    registry = MlflowProcess(uri, PATIENT)
    try:
        version = await registry.resolve("calories", alias)
        assert version is not None
        return version, await BundleCache(folder).fetch(registry, version)
    finally:
        await registry.aclose()


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize("alias", ["champion", "by_run", "logged", "disk", "disk_by_run", "disk_logged"])
async def test_a_version_comes_byte_by_byte(server: MlflowServer, trained: Trained, tmp_path: Path, alias: str) -> None:
    """Wherever its source says it is."""
    version, bundle = await fetched(server.uri, alias, tmp_path)
    assert contents(bundle.folder) == contents(trained.bundle.folder)
    assert (version.name, version.version, version.tags) == ("calories", server.versions[alias], {"by": alias})
    assert alias in version.aliases
    assert version.run_id is not None or "logged" in alias
    assert abs(version.created - time.time()) < 86400


async def test_what_is_not_there_is_none(server: MlflowServer) -> None:
    """Neither the model nor the alias is an error."""
    registry = MlflowProcess(server.uri, PATIENT)
    assert await registry.resolve("calories", "nobody") is None
    assert await registry.resolve("nothing", "champion") is None
    await registry.aclose()


async def test_an_alias_that_is_moved_and_a_version_that_is_deleted(server: MlflowServer, tmp_path: Path) -> None:
    """The next question sees it; a version that went in between is an error, and its copy stays."""
    registry = MlflowProcess(server.uri, PATIENT)
    number = server.versions["by_run"]
    server.call("POST", "registered-models/alias", name="calories", alias="moving", version=server.versions["disk"])
    assert (await registry.resolve("calories", "moving")) is not None
    server.call("POST", "registered-models/alias", name="calories", alias="moving", version=number)
    version = await registry.resolve("calories", "moving")
    assert version is not None
    assert version.version == number
    server.call("POST", "model-versions/create", name="calories", source=version.source, run_id=version.run_id or "")
    latest = await registry.resolve("calories", "latest")
    assert latest is not None
    cache = BundleCache(tmp_path)
    bundle = await cache.fetch(registry, latest)
    server.call("DELETE", "model-versions/delete", name="calories", version=latest.version)
    assert (await registry.resolve("calories", "latest")) != latest
    (tmp_path / "into").mkdir()
    with pytest.raises(RegistryError, match=f"{server.uri} cannot be read: .*version={latest.version}"):
        await registry.download(latest, tmp_path / "into")
    assert await cache.fetch(registry, latest) == bundle
    await registry.aclose()


async def test_a_server_that_hangs_and_one_that_is_gone(server: MlflowServer, tmp_path: Path) -> None:
    """Both are an error of one line; the copy serves meanwhile; and then the server is back."""
    version, bundle = await fetched(server.uri, "champion", tmp_path)
    cache = BundleCache(tmp_path)
    await cache.remember("champion", version)

    async def out_of_reach(deadlines: Deadlines, message: str) -> None:
        registry = MlflowProcess(server.uri, deadlines)
        try:
            with pytest.raises(RegistryError, match=f"the registry {server.uri} {message}"):
                await registry.resolve("calories", "champion")
            with pytest.raises(RegistryError, match=f"the registry {server.uri} {message}"):
                await registry.download(version, tmp_path)
            assert await cache.last_good("calories", "champion") == (version, bundle)
            assert await cache.fetch(registry, version) == bundle
        finally:
            await registry.aclose()

    server.signal(signal.SIGSTOP)
    try:
        await out_of_reach(Deadlines(resolve=2.5, download=2.5, start=PATIENCE), "does not answer in time")
    finally:
        server.signal(signal.SIGCONT)
    server.stop()
    try:
        await out_of_reach(PATIENT, "cannot be read: .*(refused|reset)")
    finally:
        await anyio.to_thread.run_sync(server.start)
    assert (await fetched(server.uri, "champion", tmp_path))[0] == version


async def test_the_embedded_store_is_read_without_a_server(trained: Trained, tmp_path: Path) -> None:
    """Byte by byte from each place on this disk; MLflow's reading leaves the database as it was."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    versions = register(REGISTER_ON_DISK, REGISTER_BESIDE, uri=uri, bundle=trained.bundle.folder, folder=tmp_path)
    before = (tmp_path / "mlflow.db").read_bytes()
    registry = MlflowProcess(uri, PATIENT)
    for alias, number in versions.items():
        version = await registry.resolve("calories", alias)
        assert version is not None
        assert version.version == number
        bundle = await BundleCache(tmp_path / "cache").fetch(registry, version)
        assert contents(bundle.folder) == contents(trained.bundle.folder)
    assert await registry.resolve("calories", "nobody") is None
    assert await registry.resolve("nothing", "champion") is None
    assert (tmp_path / "mlflow.db").read_bytes() == before

    champion = await registry.resolve("calories", "champion")
    assert champion is not None
    kept = tmp_path / "artifacts" / champion.source.removeprefix("mlflow-artifacts:/")
    await refused(registry, champion, tmp_path / "1", "link in calories .*, which is no file", lambda: link(kept))
    await refused(registry, champion, tmp_path / "2", f"more than {MAX_FILES} files", lambda: fill(kept, MAX_FILES))
    await refused(registry, champion, tmp_path / "3", f"more than {MAX_FILES} files", lambda: fill(kept, 0))
    await refused(registry, champion, tmp_path / "4", "no files of calories .*: were they deleted", lambda: empty(kept))
    await registry.aclose()


async def refused(
    registry: MlflowProcess, version: Version, into: Path, message: str, change: Callable[[], None]
) -> None:
    """Change the files of a version, and expect that its download fails."""
    await anyio.to_thread.run_sync(change)
    await anyio.Path(into).mkdir()
    with pytest.raises(RegistryError, match=message):
        await registry.download(version, into)


def empty(folder: Path) -> None:
    """Remove a folder."""
    shutil.rmtree(folder)


def link(folder: Path) -> None:
    """Add a link to a place elsewhere."""
    (folder / "link").symlink_to("/etc/hostname")


def fill(folder: Path, files: int) -> None:
    """Leave so many empty files in a folder, and where that is none, a single one that is too large."""
    shutil.rmtree(folder)
    folder.mkdir()
    for number in range(files + 1):
        (folder / str(number)).touch()
    if files == 0:
        with (folder / "large").open("wb") as file:
            file.truncate(MAX_BYTES + 1)

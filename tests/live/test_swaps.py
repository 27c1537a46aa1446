"""A hundred new models under load: not one request fails, and each answer is that of the model it names."""

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import anyio
import pytest
from mlflow import MlflowClient, MlflowException

from calsvc.http.schema import parse_workout
from calsvc.model.scorer import OnnxScorer
from calsvc.training.publish import publish
from tests.handouts import write_handout
from tests.http.test_schema import WORKOUT, workout
from tests.making import Trained, successor, trained_in
from tests.service_process import PATIENCE, ServiceProcess, service_process

pytestmark = pytest.mark.slow

SWAPS = 100
CONNECTIONS = 8


class Load:
    """Requests over a few connections until told to stop; keeps what each answer said."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stopping = False
        self.answers: set[tuple[str, float]] = set()
        self.count = 0

    async def worker(self, session: aiohttp.ClientSession, number: int) -> None:
        """Ask again and again."""
        while not self.stopping:
            async with session.post(f"{self.url}/predict", json=WORKOUT | {"id": number}) as answer:
                assert answer.status == 200, await answer.text()
                kcal = (await answer.json())["Calories"]
                self.answers.add((answer.headers["X-Model-Version"], kcal))
                self.count += 1


async def serving(session: aiohttp.ClientSession, url: str, version: str) -> None:
    """Wait until /info names a version."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        async with session.get(f"{url}/info") as answer:
            if (await answer.json())["model"]["version"] == version:
                return
    raise TimeoutError(version)


async def swapped_under_load(service: ServiceProcess, next_model: Callable[[int], str]) -> Load:
    """Let `next_model` put `SWAPS` models in place, one after the other, and wait until each one serves."""
    load = Load(service.url)
    async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
        for number in range(CONNECTIONS):
            tasks.start_soon(load.worker, session, number)
        for number in range(1, SWAPS + 1):
            version = await anyio.to_thread.run_sync(next_model, number)
            service.process.send_signal(signal.SIGHUP)
            await serving(session, service.url, version)
        load.stopping = True
    return load


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model that answers differently."""
    folder = tmp_path_factory.mktemp("other")
    return trained_in(folder, write_handout(folder / "handout", trees="half", seed=5))


def register(uri: str, bundle: Path) -> str:
    """Register a bundle; return the number of the version."""
    client = MlflowClient(uri, uri)
    with suppress(MlflowException):  # the second time it is there
        client.create_registered_model("calories")
    run = client.create_run("0").info
    client.log_artifacts(run.run_id, str(bundle), "bundle")
    return str(client.create_model_version("calories", f"{run.artifact_uri}/bundle", run_id=run.run_id).version)


def test_a_hundred_moves_of_an_alias_under_load_fail_no_request(
    registry: tuple[str, subprocess.Popen[bytes]], trained: Trained, other: Trained, tmp_path: Path
):
    """The service follows the alias of a real registry while requests go on, and every answer is the named model's."""
    uri, _ = registry
    bundles = [trained.bundle, other.bundle]
    numbers = [register(uri, bundle.folder) for bundle in bundles]
    versions = [bundle.manifest.model_version for bundle in bundles]
    expected = {
        version: anyio.run(OnnxScorer(bundle).score, parse_workout(workout()))
        for version, bundle in zip(versions, bundles, strict=True)
    }
    client = MlflowClient(uri, uri)
    client.set_registered_model_alias("calories", "champion", numbers[0])

    def next_model(number: int) -> str:
        client.set_registered_model_alias("calories", "champion", numbers[number % 2])
        return versions[number % 2]

    environ = {"CALSVC_MODEL": "models:/calories@champion", "MLFLOW_TRACKING_URI": uri, "CALSVC_MODEL_POLL": "1"}
    with service_process(tmp_path, environ, folder_of_process=tmp_path) as service:
        load = anyio.run(swapped_under_load, service, next_model)
        assert load.answers == set(expected.items())
        assert load.count > SWAPS


def test_a_hundred_swaps_under_load_fail_no_request(trained: Trained, other: Trained, tmp_path: Path):
    """SIGHUP after each new bundle; requests go on over the same connections all the while."""
    target = tmp_path / "data" / "bundle"
    expected: dict[str, float] = {}

    def next_model(number: int) -> str:
        source = (trained, other)[number % 2].bundle
        files = {name: source.read(name) for name in source.manifest.checksums}
        bundle = publish(successor(source.manifest, number), files, target)
        expected[bundle.manifest.model_version] = anyio.run(OnnxScorer(bundle).score, parse_workout(workout()))
        return bundle.manifest.model_version

    next_model(0)
    with service_process(tmp_path, {"CALSVC_MODEL": str(target)}) as service:
        load = anyio.run(swapped_under_load, service, next_model)
        assert {version for version, _ in load.answers} == set(expected)
        assert all(expected[version] == kcal for version, kcal in load.answers)
        assert load.count > SWAPS

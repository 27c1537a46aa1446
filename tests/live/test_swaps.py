"""A hundred new models under load: not one request fails, and each answer is that of the model it names."""

import signal
import time
from pathlib import Path

import aiohttp
import anyio
import pytest

from calsvc.model.scorer import OnnxScorer
from calsvc.schema import parse_workout
from calsvc.training.publish import publish
from tests.handouts import write_handout
from tests.making import Trained, successor, trained_in
from tests.service_process import PATIENCE, service_process
from tests.test_schema import WORKOUT, workout

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


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model that answers differently."""
    folder = tmp_path_factory.mktemp("other")
    return trained_in(folder, write_handout(folder / "handout", trees="half", seed=5))


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

    async def scenario(url: str) -> Load:
        load = Load(url)
        async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
            for number in range(CONNECTIONS):
                tasks.start_soon(load.worker, session, number)
            for number in range(1, SWAPS + 1):
                version = await anyio.to_thread.run_sync(next_model, number)
                service.process.send_signal(signal.SIGHUP)
                await serving(session, url, version)
            load.stopping = True
        return load

    next_model(0)
    with service_process(tmp_path, {"CALSVC_MODEL": str(target)}) as service:
        load = anyio.run(scenario, service.url)
        assert {version for version, _ in load.answers} == set(expected)
        assert all(expected[version] == kcal for version, kcal in load.answers)
        assert load.count > SWAPS

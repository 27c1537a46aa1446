"""Following the registry's aliases: what is good is installed, whatever else happens changes nothing."""

import functools
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from calsvc.http.errors import ParityMissed, RegistryError
from calsvc.http.schema import Workout
from calsvc.model.bundle import ONNX, Bundle, Engine
from calsvc.model.scorer import Scorer, open_scorer
from calsvc.model.target import Target
from calsvc.registry.address import RegisteredModel
from calsvc.registry.watch import Candidate, ModelWatch, Opener, Outcome, Role, WatchSettings, open_beside
from calsvc.settings import Settings
from calsvc.training.publish import publish
from tests.clock import Clock
from tests.making import Trained
from tests.registry.test_cache import Shelf, spoiled, version_of

pytestmark = pytest.mark.anyio

NEVER = 1e6
"""Seconds: longer than any test, so that only a poke makes the watch look."""
AT_ONCE = 1e-3

Note = tuple[Role, Outcome, str]


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the service runs on, without its faster implementation."""
    return "asyncio"


class CountedScorer:
    """Answers with a number that names it; counts how often it is closed."""

    engine: Engine = "onnx"

    def __init__(self, kcal: float) -> None:
        self.kcal = kcal
        self.closed = 0

    async def score(self, _: Workout) -> float:
        """Answer, unless it has been closed."""
        assert not self.closed
        return self.kcal

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1


class Room:
    """Slots that keep a diary."""

    def __init__(self) -> None:
        self.models: dict[Role, Candidate] = {}
        self._notes, self._diary = anyio.create_memory_object_stream[Note](1000)

    async def install(self, role: Role, candidate: Candidate) -> None:
        """See `Slots`."""
        await self._close(self.models.get(role))
        self.models[role] = candidate

    async def remove(self, role: Role) -> None:
        """See `Slots`."""
        await self._close(self.models.pop(role))

    def noted(self, role: Role, outcome: Outcome, detail: str) -> None:
        """See `Slots`."""
        self._notes.send_nowait((role, outcome, detail))

    async def next(self, role: Role) -> tuple[Outcome, str]:
        """Wait for what comes of the next check of a role."""
        while True:
            found, outcome, detail = await self._diary.receive()
            if found == role:
                return outcome, detail

    async def until(self, role: Role, wanted: Outcome) -> str:
        """Wait for a check of a role to end in this way."""
        while True:
            outcome, detail = await self.next(role)
            if outcome == wanted:
                return detail

    def version(self, role: Role) -> str | None:
        """Return the number of the version that is installed."""
        found = self.models.get(role)
        return found.version.version if found else None

    async def aclose(self) -> None:
        """Close what is installed, as the service does at its end."""
        for role in list(self.models):
            await self.remove(role)
        self._notes.close()
        self._diary.close()

    async def _close(self, candidate: Candidate | None) -> None:
        if candidate:
            await candidate.scorer.aclose()


class Scene:
    """A registry, slots, and a watch between them."""

    def __init__(self, folder: Path, opener: Opener) -> None:
        self.folder = folder
        self.opener = opener
        self.shelf = Shelf()
        self.clock = Clock()
        self.room = Room()

    def watch(self, interval: float = NEVER, opening: float = 60.0) -> ModelWatch:
        """Return another watch over the same folder."""
        settings = WatchSettings(
            model=RegisteredModel("calories", "champion"),
            interval=interval,
            opening=opening,
            clock=self.clock,
            chance=lambda: 0.5,
        )
        return ModelWatch(settings, self.shelf, self.folder, self.opener, self.room)

    @asynccontextmanager
    async def running(self, interval: float = NEVER) -> AsyncIterator[ModelWatch]:
        """Start a watch and let it run."""
        watch = self.watch(interval)
        await watch.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            await self.room.next("challenger")
            yield watch
            tasks.cancel_scope.cancel()


async def counted(bundle: Bundle) -> CountedScorer:
    """Open what is no real engine, to count with."""
    return CountedScorer(bundle.manifest.trees)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Scorers that are counted."""
    made = Scene(tmp_path / "cache", counted)
    yield made
    await made.room.aclose()


@pytest.fixture
def bundles(republish: Callable[[int], Bundle]) -> list[Bundle]:
    """Three bundles of different versions."""
    return [republish(number) for number in range(3)]


async def test_champion_first_then_the_challenger(scene: Scene, bundles: list[Bundle]) -> None:
    """The service answers before anybody asks for the challenger."""
    scene.shelf.aliases = {"champion": version_of(bundles[0], 1), "challenger": version_of(bundles[1], 2)}
    watch = scene.watch()
    await watch.start()
    assert (scene.room.version("champion"), scene.room.version("challenger")) == ("1", None)
    assert scene.room.models["champion"].bundle.manifest == bundles[0].manifest
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch.run)
        assert await scene.room.until("challenger", "swapped") == "calories version 2"
        tasks.cancel_scope.cancel()


async def test_a_moved_alias_is_followed(scene: Scene, bundles: list[Bundle]) -> None:
    """By itself after an interval, forwards and backwards; the old scorer is closed once."""
    versions = [version_of(bundle, number) for number, bundle in enumerate(bundles)]
    scene.shelf.aliases["champion"] = versions[0]
    async with scene.running(AT_ONCE):
        scorers = []
        for number in (1, 2, 0):
            scorers.append(scene.room.models["champion"].scorer)
            scene.shelf.aliases["champion"] = versions[number]
            assert await scene.room.until("champion", "swapped") == f"calories version {number}"
            assert scene.room.version("champion") == str(number)
        assert await scene.room.next("champion") == ("unchanged", "calories version 0")
    assert [scorer.closed for scorer in scorers if isinstance(scorer, CountedScorer)] == [1, 1, 1]


async def test_a_poke_makes_it_look_at_once(scene: Scene, bundles: list[Bundle]) -> None:
    """SIGHUP does that."""
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running() as watch:
        scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
        watch.poke()
        assert await scene.room.until("champion", "swapped") == "calories version 2"


async def test_a_poke_during_a_check_is_a_reason_for_another(scene: Scene, bundles: list[Bundle]) -> None:
    """The alias may have moved just after it was read."""
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running() as watch:

        async def moved_meanwhile(_: Path) -> None:
            scene.shelf.spoil = None
            scene.shelf.aliases["champion"] = version_of(bundles[2], 3)
            watch.poke()

        scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
        scene.shelf.spoil = moved_meanwhile
        watch.poke()
        assert await scene.room.until("champion", "swapped") == "calories version 2"
        assert await scene.room.until("champion", "swapped") == "calories version 3"


async def test_a_bad_model_changes_nothing(
    scene: Scene, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    """It is rejected at each check, logged once, and not downloaded again until its pause has passed."""
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running(AT_ONCE):
        scene.shelf.spoil = spoiled(ONNX, lambda content: content[:-1])
        scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
        detail = await scene.room.until("champion", "rejected")
        assert "calories version 2 in the registry is unusable: model.onnx is not the file" in detail
        for _ in range(5):
            assert await scene.room.next("champion") == ("rejected", detail)
        assert scene.shelf.downloads == ["1", "2"]
        assert scene.room.version("champion") == "1"
        assert [record.message for record in caplog.records] == [f"the champion stays as it is: {detail}"]
        scene.clock.now += 1.0
        await scene.room.next("champion")
        await scene.room.next("champion")
        assert scene.shelf.downloads == ["1", "2", "2"]
        scene.shelf.spoil = None
        scene.clock.now += 1.0
        assert await scene.room.until("champion", "swapped") == "calories version 2"


async def test_a_bad_model_is_tried_again_less_and_less_often(scene: Scene, bundles: list[Bundle]) -> None:
    """The pause doubles with each attempt, and ends at ten minutes."""
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running(AT_ONCE):
        scene.shelf.spoil = spoiled(ONNX, lambda content: content[:-1])
        scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
        await scene.room.until("champion", "rejected")
        tried = len(scene.shelf.downloads)
        for pause in [min(600.0, AT_ONCE * 2**attempt) for attempt in range(23)]:
            scene.clock.now += pause * 0.9
            await scene.room.next("champion")
            await scene.room.next("champion")
            assert len(scene.shelf.downloads) == tried
            scene.clock.now += pause * 0.2
            await scene.room.next("champion")
            await scene.room.next("champion")
            tried += 1
            assert len(scene.shelf.downloads) == tried


async def test_a_bad_model_is_tried_again_when_poked_and_forgotten_when_the_alias_moves(
    scene: Scene, bundles: list[Bundle]
) -> None:
    """Whoever repairs something need not wait."""
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running() as watch:
        scene.shelf.spoil = spoiled(ONNX, lambda content: content[:-1])
        scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
        for attempts in (["1", "2"], ["1", "2", "2"]):
            watch.poke()
            await scene.room.until("champion", "rejected")
            assert scene.shelf.downloads == attempts
        scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
        watch.poke()
        assert await scene.room.next("champion") == ("unchanged", "calories version 1")


async def test_a_registry_out_of_reach_changes_nothing(
    scene: Scene, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and once more when it happens again."""
    scene.shelf.aliases = {"champion": version_of(bundles[0], 1), "challenger": version_of(bundles[1], 2)}
    async with scene.running() as watch:
        for _ in range(2):
            for _ in range(3):
                scene.shelf.down = "the registry is on fire"
                watch.poke()
                assert await scene.room.next("champion") == ("unreachable", "the registry is on fire")
                assert await scene.room.next("challenger") == ("unreachable", "the registry is on fire")
            scene.shelf.down = None
            watch.poke()
            assert await scene.room.next("champion") == ("unchanged", "calories version 1")
            assert await scene.room.next("challenger") == ("unchanged", "calories version 2")
        assert (scene.room.version("champion"), scene.room.version("challenger")) == ("1", "2")
    assert [record.message for record in caplog.records] == 2 * [
        "the champion stays as it is: the registry is on fire",
        "the challenger stays as it is: the registry is on fire",
    ]


async def test_a_champion_whose_version_was_deleted_goes_on(scene: Scene, bundles: list[Bundle]) -> None:
    """The registry deletes the alias with the version."""
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running() as watch:
        scene.shelf.aliases.clear()
        watch.poke()
        assert await scene.room.next("champion") == ("rejected", "the registry has no models:/calories@champion")
        assert scene.room.version("champion") == "1"


async def test_a_challenger_comes_and_goes(scene: Scene, bundles: list[Bundle]) -> None:
    """With its alias; without one there is nothing to remove."""
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running() as watch:
        watch.poke()
        assert await scene.room.next("challenger") == ("unchanged", "none")
        scene.shelf.aliases["challenger"] = version_of(bundles[1], 2)
        watch.poke()
        assert await scene.room.next("challenger") == ("swapped", "calories version 2")
        del scene.shelf.aliases["challenger"]
        watch.poke()
        assert await scene.room.next("challenger") == ("removed", "none")
        assert scene.room.version("challenger") is None


async def test_a_challenger_that_is_the_champion_is_none(scene: Scene, bundles: list[Bundle]) -> None:
    """After a promotion both aliases may point at one version, which need not be compared with itself."""
    scene.shelf.aliases = {"champion": version_of(bundles[0], 1), "challenger": version_of(bundles[1], 2)}
    async with scene.running() as watch:
        assert scene.room.version("challenger") == "2"
        scene.shelf.aliases["champion"] = scene.shelf.aliases["challenger"]
        watch.poke()
        assert await scene.room.next("champion") == ("swapped", "calories version 2")
        assert await scene.room.next("challenger") == ("removed", "none")


async def test_a_bad_challenger_leaves_the_champion_alone(scene: Scene, bundles: list[Bundle]) -> None:
    """And the challenger that was there before."""
    scene.shelf.aliases = {"champion": version_of(bundles[0], 1), "challenger": version_of(bundles[1], 2)}
    async with scene.running() as watch:
        scene.shelf.spoil = spoiled(ONNX, lambda _: b"")
        scene.shelf.aliases["challenger"] = version_of(bundles[2], 3)
        watch.poke()
        assert await scene.room.next("champion") == ("unchanged", "calories version 1")
        assert (await scene.room.next("challenger"))[0] == "rejected"
        assert scene.room.version("challenger") == "2"


async def test_a_hundred_moves_leak_no_scorer(scene: Scene, bundles: list[Bundle]) -> None:
    """Each is opened once, answers while it is installed, and is closed once."""
    opened: list[CountedScorer] = []

    async def opener(_: Bundle) -> Scorer:
        opened.append(CountedScorer(len(opened)))
        return opened[-1]

    scene.opener = opener
    scene.shelf.aliases["champion"] = version_of(bundles[0], 0)
    async with scene.running() as watch:
        workout = bundles[0].parity_sample().rows[0]
        for number in range(1, 101):
            scene.shelf.aliases["champion"] = version_of(bundles[number % 3], number)
            watch.poke()
            assert await scene.room.until("champion", "swapped") == f"calories version {number}"
            assert await scene.room.models["champion"].scorer.score(workout) == number
    await scene.room.aclose()
    assert [scorer.closed for scorer in opened] == 101 * [1]
    assert len(list(scene.folder.glob("calories/*/files"))) < 6


# --- the start --------------------------------------------------------------------------------------------------------


async def started_before(scene: Scene, bundle: Bundle) -> None:
    """Leave a local copy behind, as an earlier process does."""
    scene.shelf.aliases["champion"] = version_of(bundle, 1)
    await scene.watch().start()
    await scene.room.next("champion")


async def test_a_registry_that_is_down_at_the_start_means_the_last_good_model(
    scene: Scene, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning; and with the registry's own word as soon as it is back."""
    await started_before(scene, bundles[0])
    scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
    scene.shelf.down = "the registry is on fire"
    async with scene.running() as watch:
        assert scene.room.version("champion") == "1"
        assert (
            "serving the last good model, calories version 1, from its local copy: the registry is on fire"
            in caplog.messages
        )
        scene.shelf.down = None
        watch.poke()
        assert await scene.room.until("champion", "swapped") == "calories version 2"


@pytest.mark.parametrize("what", ["altered", "deleted"])
async def test_a_champion_that_is_unusable_at_the_start_means_the_last_good_model(
    scene: Scene, bundles: list[Bundle], what: str
) -> None:
    """A promotion that went wrong is no outage."""
    await started_before(scene, bundles[0])
    scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
    if what == "altered":
        scene.shelf.spoil = spoiled(ONNX, lambda content: content + b"\0")
    else:
        scene.shelf.aliases.clear()
    await scene.watch().start()
    assert (await scene.room.next("champion"))[0] == "rejected"
    assert scene.room.version("champion") == "1"


async def test_nothing_to_serve_at_all_is_one_error(scene: Scene, bundles: list[Bundle]) -> None:
    """No registry and no copy, no alias and no copy, no registry and a copy that was altered."""
    with pytest.raises(RegistryError, match=r"the registry has no models:/calories@champion; there is no local copy"):
        await scene.watch().start()
    scene.shelf.down = "the registry is on fire"
    with pytest.raises(RegistryError, match="the registry is on fire; there is no local copy"):
        await scene.watch().start()
    scene.shelf.down = None
    await started_before(scene, bundles[0])
    (scene.room.models["champion"].bundle.folder / ONNX).write_bytes(b"altered")
    scene.shelf.down = "the registry is on fire"
    with pytest.raises(RegistryError, match="the registry is on fire; there is no local copy"):
        await scene.watch().start()


async def test_a_folder_that_cannot_be_written_does_not_take_the_model_away(
    scene: Scene, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    """It is proven and serves; that it cannot be remembered is a warning."""
    (scene.folder / "calories" / "@champion.json").mkdir(parents=True)
    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    await scene.watch().start()
    assert scene.room.version("champion") == "1"
    assert any("calories version 1 serves, but is not remembered" in message for message in caplog.messages)


async def test_an_engine_that_never_opens_is_given_up(scene: Scene, bundles: list[Bundle]) -> None:
    """The old model has not been touched meanwhile."""
    await started_before(scene, bundles[0])

    async def hang(_: Bundle) -> Scorer:
        await anyio.sleep_forever()
        raise AssertionError

    scene.opener = hang
    scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
    with pytest.raises(
        RegistryError,
        match=r"version 2 cannot be used: its engine does not .*; the local copy does not help: its engine",
    ):
        await scene.watch(opening=0.05).start()


async def test_a_mistake_in_a_check_does_not_end_the_watch(
    scene: Scene, bundles: list[Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is raised, the next check takes place."""

    async def wrong(_: Path) -> None:
        raise KeyError("mistake")

    scene.shelf.aliases["champion"] = version_of(bundles[0], 1)
    async with scene.running() as watch:
        scene.shelf.spoil = wrong
        scene.shelf.aliases["champion"] = version_of(bundles[1], 2)
        watch.poke()
        assert await scene.room.next("champion") == ("rejected", "KeyError: 'mistake'")
        scene.shelf.spoil = None
        watch.poke()
        assert await scene.room.until("champion", "swapped") == "calories version 2"
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_serving_from_a_registry_needs_nothing_of_the_training_stack() -> None:
    """Following an alias imports no MLflow into the service, and nothing else of the extras."""
    program = """
import sys
from calsvc.registry import loading
from calsvc.registry.mlflow_process import MlflowProcess
MlflowProcess("http://127.0.0.1:1"), MlflowProcess("sqlite:///nowhere/mlflow.db")
heavy = {"joblib", "mlflow", "onnx", "onnxmltools", "pandas", "polars", "yaml", "rich", "sklearn", "xgboost"}
print(sorted(heavy & set(sys.modules)), [name for name in sys.modules if name.startswith("calsvc.training")])
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == "[] []\n"


# --- real engines -----------------------------------------------------------------------------------------------------


def wrong_target(trained: Trained, folder: Path) -> Bundle:
    """Return a well-formed bundle that does not say what the handout says."""
    files = {name: trained.bundle.read(name) for name in trained.bundle.manifest.checksums}
    return publish(replace(trained.bundle.manifest, target=Target("identity")), files, folder / "wrong")


async def test_a_model_that_disagrees_with_its_handout_is_rejected(trained: Trained, tmp_path: Path) -> None:
    """Its files are unaltered, its numbers are not the handout's."""
    scene = Scene(tmp_path / "cache", functools.partial(open_scorer, settings=trained.settings))
    scene.shelf.aliases["champion"] = version_of(trained.bundle, 1)
    async with scene.running() as watch:
        scene.shelf.aliases["champion"] = version_of(wrong_target(trained, tmp_path), 2)
        watch.poke()
        detail = await scene.room.until("champion", "rejected")
        assert detail.startswith("calories version 2 cannot be used: the engine onnx says")
        assert scene.room.version("champion") == "1"
    await scene.room.aclose()


async def test_opening_beside_the_loop_gives_the_same_scorer(trained: Trained, tmp_path: Path) -> None:
    """Opened in a thread, used on the loop; proven just the same."""
    row = trained.bundle.parity_sample().rows[0]
    answers = set()
    for opener in (open_scorer, open_beside):
        scorer = await opener(trained.bundle, trained.settings)
        answers.add(await scorer.score(row))
        await scorer.aclose()
    assert len(answers) == 1
    with pytest.raises(ParityMissed):
        await open_beside(wrong_target(trained, tmp_path), Settings())

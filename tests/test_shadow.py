"""The challenger in the shadow: asked after the answer, charged with the same truth, never in anybody's way."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from anyio.abc import TaskGroup
from msgspec.structs import replace

from calsvc.feedback.quality import squared_log_error
from calsvc.http.errors import ScoringError
from calsvc.http.schema import Workout
from calsvc.model.bundle import Bundle, Engine, load_bundle
from calsvc.registry.serving import ServingModel
from calsvc.service import SHADOW_LOOP_LAG, SHADOWS_AT_ONCE
from tests.test_app import Service, running

RECORD: Final = Workout(id=7, Age=40, Height=172, Weight=71, Duration=24, Heart_Rate=106, Body_Temp=40, Sex="f")


class Challenger:
    """A scorer that says what the test wants: a number, nothing, or nothing yet."""

    engine: Final[Engine] = "onnx"

    def __init__(self, kcal: float | None) -> None:
        self.kcal = kcal
        self.gate: anyio.Event | None = None
        self.asked = 0
        self.closed = 0

    async def score(self, _: Workout) -> float:
        """Wait at the gate where there is one."""
        assert not self.closed
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.kcal is None:
            raise ScoringError("no number today")
        return self.kcal

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1


@pytest.fixture
def service(bundle: Path) -> Iterator[Service]:
    """A service without a challenger yet."""
    yield from running(bundle)


def in_the_loop(service: Service, function: Any, *arguments: Any) -> Any:
    """Call an async function where the service runs."""
    assert service.client.portal is not None
    return service.client.portal.call(function, *arguments)


def challenge(service: Service, challenger: Challenger) -> None:
    """Put a challenger beside the champion, under a version of its own."""
    assert service.state.champion is not None
    champion = service.state.champion.bundle
    manifest = replace(champion.manifest, model_version="20300101T000000Z-challenge")
    model = ServingModel("challenger", Bundle(champion.folder, manifest), challenger)
    in_the_loop(service, service.state.install, model)


async def answer_in_background(service: Service, tasks: TaskGroup) -> None:
    """Predict RECORD, and let what follows the answer go on in `tasks`."""
    answer = await service.state.predict(service.state.serving_model(), RECORD)
    tasks.start_soon(service.state.answered, RECORD, answer)


def test_both_are_charged_with_the_same_truth(service: Service):
    """Each role has its own quality, and the pair its evidence, record by record."""
    challenge(service, Challenger(50.0))
    kcals = [service.predict(id=number, Duration=5 + number).json()["Calories"] for number in range(3)]
    for number in range(3):
        service.feedback(number, 40.0)
    numbers = service.numbers()
    theirs = squared_log_error(50.0, 40.0)
    ours = [squared_log_error(kcal, 40.0) for kcal in kcals]
    assert numbers["calsvc_predictions_total", "challenger"] == 3
    assert numbers["calsvc_quality_matched_total", "challenger"] == 3
    assert numbers["calsvc_quality_squared_log_error_total", "challenger"] == pytest.approx(3 * theirs)
    assert numbers["calsvc_quality_rmsle", "challenger"] == pytest.approx(math.sqrt(theirs))
    assert numbers["calsvc_quality_squared_log_error_total", "champion"] == pytest.approx(sum(ours))
    evidence = {key[0]: value for key, value in numbers.items() if "paired" in key[0] and "champion" not in key[2:]}
    assert evidence["calsvc_quality_paired_total"] == 3
    assert evidence["calsvc_quality_paired_squared_difference_total"] == pytest.approx(
        sum((theirs - each) ** 2 for each in ours)
    )


def test_coverage_counts_a_record_once(service: Service):
    """Two models wait for one label."""
    challenge(service, Challenger(50.0))
    service.predict(id=1)
    service.feedback(1, 40.0)
    assert service.numbers()["calsvc_feedback_coverage_ratio", "window"] == 1


def test_a_challenger_that_fails_costs_nobody_an_answer(service: Service):
    """The record is answered and judged; the failure is counted, and the challenger is not charged."""
    challenge(service, Challenger(None))
    assert service.predict(id=1).status_code == 200
    assert service.feedback(1, 40.0).status_code == 200
    numbers = service.numbers()
    assert numbers["calsvc_shadow_total", "failed"] == 1
    assert numbers["calsvc_quality_matched_total", "challenger"] == 0


def test_a_slow_challenger_delays_no_answer_and_is_left_out_when_it_falls_behind(service: Service):
    """Answers come while the challenger is still thinking; past its limit records are shed, and counted."""
    challenger = Challenger(50.0)

    async def close_the_gate() -> None:
        challenger.gate = anyio.Event()

    in_the_loop(service, close_the_gate)
    challenge(service, challenger)

    async def answers() -> list[int]:
        """Answer in the service's own loop, so that its background work goes on meanwhile."""
        async with anyio.create_task_group() as tasks:
            for _ in range(SHADOWS_AT_ONCE + 3):
                await answer_in_background(service, tasks)
            await anyio.wait_all_tasks_blocked()
            seen = [challenger.asked]
            assert challenger.gate is not None
            challenger.gate.set()
        return seen

    assert in_the_loop(service, answers) == [SHADOWS_AT_ONCE]
    numbers = service.numbers()
    assert numbers["calsvc_shadow_total", "shed"] == 3
    assert numbers["calsvc_shadow_total", "scored"] == SHADOWS_AT_ONCE
    assert numbers["calsvc_predictions_total", "champion"] == SHADOWS_AT_ONCE + 3


def test_the_challenger_is_left_out_first_when_the_loop_is_late(service: Service):
    """A busy service saves the challenger's time before anybody else's."""
    challenger = Challenger(50.0)
    challenge(service, challenger)
    service.state.meters.event_loop_lag = 2 * SHADOW_LOOP_LAG
    assert service.predict(id=1).status_code == 200
    assert challenger.asked == 0
    assert service.numbers()["calsvc_shadow_total", "shed"] == 1


def test_a_truth_that_was_faster_than_the_challenger_charges_the_champion_only(service: Service):
    """A shadow that comes too late for its label is dropped, not put beside another prediction."""
    challenger = Challenger(50.0)
    challenge(service, challenger)

    async def scenario() -> None:
        challenger.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            await answer_in_background(service, tasks)
            await anyio.wait_all_tasks_blocked()
            await service.state.store.join(7, 40.0, service.clock.now)
            challenger.gate.set()

    in_the_loop(service, scenario)
    assert service.numbers()["calsvc_predictions_total", "challenger"] == 0


def test_a_challenger_is_closed_after_its_last_record_and_only_then(service: Service):
    """Removing waits for the record in flight; nobody asks a closed scorer."""
    challenger = Challenger(50.0)
    challenge(service, challenger)

    async def scenario() -> list[int]:
        challenger.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            await answer_in_background(service, tasks)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(service.state.remove_challenger)
            await anyio.wait_all_tasks_blocked()
            before = challenger.closed
            challenger.gate.set()
        return [before, challenger.closed]

    assert in_the_loop(service, scenario) == [0, 1]
    assert service.client.get("/info").json()["challenger"] is None


def test_info_shows_the_challenger(service: Service, bundle: Path):
    """Both models are told apart by version."""
    challenge(service, Challenger(50.0))
    info = service.client.get("/info").json()
    assert info["challenger"]["version"] == "20300101T000000Z-challenge"
    assert info["model"]["version"] == load_bundle(bundle).manifest.model_version

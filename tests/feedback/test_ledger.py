"""The join store: every order in which a prediction and its truth can come. The clock is an argument."""

import anyio
import pytest

from calsvc.errors import TruthConflict, UnknownId
from calsvc.feedback.quality import Series
from calsvc.feedback.settled import SLICES
from calsvc.feedback.store import Joined, MemoryStore, Remembered, StoreStatistics

RETENTION = 3600.0
SERIES = Series("v1", "champion")


def prediction(made_at: float, kcal: float = 80.0) -> Remembered:
    """A prediction of the only model there is."""
    return Remembered(kcal, made_at, SERIES)


@pytest.fixture
def store() -> MemoryStore:
    """A store as the service has it by default, but small."""
    return MemoryStore(RETENTION, max_pending=100)


@pytest.mark.parametrize("age", [0.0, 299.999, 300.0, 300.001, 1800.0, RETENTION])
def test_feedback_matches_whenever_it_comes_within_the_retention(store: MemoryStore, age: float):
    """At once, just before, exactly at and long after 300 s, and up to the last moment: matched."""

    async def scenario() -> None:
        await store.remember(1, prediction(1000.0))
        assert await store.join(1, 77.0, 1000.0 + age) == Joined("matched", prediction(1000.0))

    anyio.run(scenario)


def test_feedback_after_the_retention_is_unknown(store: MemoryStore):
    """A prediction past its retention is gone for the joiner even before anything has swept it."""

    async def scenario() -> None:
        await store.remember(1, prediction(1000.0))
        with pytest.raises(UnknownId, match="1"):
            await store.join(1, 77.0, 1000.0 + RETENTION + 0.001)

    anyio.run(scenario)


def test_feedback_before_any_prediction_is_unknown(store: MemoryStore):
    """A truth without a prediction is refused and does not wait for one."""

    async def scenario() -> None:
        with pytest.raises(UnknownId):
            await store.join("a", 77.0, 0.0)
        await store.remember("a", prediction(1.0))
        assert (await store.join("a", 77.0, 2.0)).status == "matched"

    anyio.run(scenario)


def test_the_same_truth_again_is_a_duplicate_and_another_one_a_conflict(store: MemoryStore):
    """The first truth stays, whatever comes after it."""

    async def scenario() -> None:
        await store.remember(1, prediction(0.0))
        await store.join(1, 77.0, 1.0)
        assert (await store.join(1, 77, 2.0)).status == "duplicate"
        with pytest.raises(TruthConflict, match="77"):
            await store.join(1, 78.0, 3.0)
        assert (await store.join(1, 77.0, 4.0)).status == "duplicate"

    anyio.run(scenario)


def test_feedback_in_any_order_finds_its_own_prediction(store: MemoryStore):
    """Labels that overtake each other are joined by id, not by order."""

    async def scenario() -> None:
        for number in range(5):
            await store.remember(number, prediction(float(number), kcal=10.0 * number))
        for number in (3, 0, 4, 1, 2):
            assert (await store.join(number, 1.0, 300.0)).prediction.kcal == 10.0 * number

    anyio.run(scenario)


def test_a_number_and_its_text_are_two_ids(store: MemoryStore):
    """The id 1 and the id "1" are different records, as they are in JSON."""

    async def scenario() -> None:
        await store.remember(1, prediction(0.0, kcal=1.0))
        await store.remember("1", prediction(0.0, kcal=2.0))
        assert (await store.join("1", 5.0, 1.0)).prediction.kcal == 2.0
        assert (await store.join(1, 6.0, 1.0)).prediction.kcal == 1.0

    anyio.run(scenario)


def test_a_record_predicted_again_waits_anew(store: MemoryStore):
    """The latest prediction of an id is the one that is judged, also after an earlier one was."""

    async def scenario() -> None:
        await store.remember(1, prediction(0.0, kcal=10.0))
        await store.remember(1, prediction(5.0, kcal=20.0))
        assert (await store.join(1, 77.0, 6.0)).prediction.kcal == 20.0
        await store.remember(1, prediction(7.0, kcal=30.0))
        assert (await store.join(1, 88.0, 8.0)) == Joined("matched", prediction(7.0, kcal=30.0))

    anyio.run(scenario)


def test_the_oldest_goes_when_too_many_wait(store: MemoryStore):
    """Past the limit the oldest prediction is forgotten, and counted."""

    async def scenario() -> None:
        for number in range(101):
            await store.remember(number, prediction(float(number)))
        assert store.statistics() == StoreStatistics(pending=100, expired=0, overflowed=1)
        with pytest.raises(UnknownId):
            await store.join(0, 1.0, 101.0)
        assert (await store.join(1, 1.0, 101.0)).status == "matched"

    anyio.run(scenario)


def test_what_is_past_its_retention_goes_a_little_with_every_call(store: MemoryStore):
    """No call scans: each removes at most two, and the backlog still shrinks."""

    async def scenario() -> None:
        for number in range(10):
            await store.remember(number, prediction(float(number)))
        await store.remember("late", prediction(10.0 + RETENTION))
        assert store.statistics() == StoreStatistics(pending=9, expired=2, overflowed=0)
        store.sweep(10.0 + RETENTION, limit=100)
        assert store.statistics() == StoreStatistics(pending=1, expired=10, overflowed=0)

    anyio.run(scenario)


def test_settled_predictions_are_forgotten_after_the_retention_too(store: MemoryStore):
    """A duplicate that comes an hour after the truth is unknown, so that memory is bounded in time."""

    async def scenario() -> None:
        await store.remember(1, prediction(0.0))
        await store.join(1, 77.0, 300.0)
        assert (await store.join(1, 77.0, 300.0 + RETENTION)).status == "duplicate"
        with pytest.raises(UnknownId):
            await store.join(1, 77.0, 300.001 + RETENTION * (1 + 1 / SLICES))

    anyio.run(scenario)

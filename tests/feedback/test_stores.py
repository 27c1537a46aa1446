"""What every store promises, in memory, in a file, in Redis: every order in which a prediction and its truth come."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from calsvc.feedback.records import Remembered, StoreStatistics
from calsvc.feedback.store import JoinStore, Late
from calsvc.http.errors import StoreUnavailable, TruthConflict, UnknownId
from tests.feedback.stores import CHALLENGER, CHAMPION, RETENTION, SHADOW, SPAN, Shadow, opened, prediction

Scenario = Callable[[JoinStore, float], Awaitable[None]]


def play(address: str, scenario: Scenario, **around: Any) -> None:
    """Play a scenario with a store and the time at which it begins; `around`: see `opened`."""

    async def go() -> None:
        async with opened(address, **around) as store:
            await scenario(store, time.monotonic())

    anyio.run(go, backend_options={"use_uvloop": True})


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    with anyio.fail_after(30):
        while not holds():  # noqa: ASYNC110 - a server, a thread
            await anyio.sleep(0.05)


async def joined_again_and_again(store: JoinStore) -> None:
    """Send the same truth until that fails."""
    with anyio.fail_after(30):
        while True:
            await store.join(1, 77.0, time.monotonic())
            await anyio.sleep(0.05)


def same(found: Remembered | None, expected: Remembered) -> bool:
    """Whether it is the prediction that was remembered; the time may be off by what a message to a server takes."""
    return found is not None and found == Remembered(
        expected.kcal, pytest.approx(expected.made_at, abs=0.25), expected.series, expected.span, expected.shadow
    )


@pytest.mark.parametrize("age", [0.0, 299.999, 300.0, 300.001, 1800.0, RETENTION - 5])
def test_feedback_matches_whenever_it_comes_within_the_retention(address: str, age: float):
    """At once, just before, exactly at and long after 300 s: matched, with the prediction as it was made."""

    async def scenario(store: JoinStore, now: float) -> None:
        made = prediction(now - age, 81.5, SPAN)
        await store.remember(1, made)
        joined = await store.join(1, 77.0, now)
        assert joined.status == "matched"
        assert same(joined.prediction, made)
        assert joined.prediction.made_at <= now

    play(address, scenario)


def test_feedback_after_the_retention_is_unknown(address: str):
    """A prediction past its retention is gone for who comes with its truth."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now - RETENTION - 1))
        with pytest.raises(UnknownId, match="1"):
            await store.join(1, 77.0, now)

    play(address, scenario)


def test_feedback_before_any_prediction_is_unknown(address: str):
    """A truth without a prediction is refused and does not wait for one."""

    async def scenario(store: JoinStore, now: float) -> None:
        with pytest.raises(UnknownId):
            await store.join("a", 77.0, now)
        await store.remember("a", prediction(now))
        assert (await store.join("a", 77.0, now)).status == "matched"

    play(address, scenario)


def test_the_same_truth_again_is_a_duplicate_and_another_one_a_conflict(address: str):
    """The first truth stays, whatever comes after it, however the number is written."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now))
        await store.join(1, 77.0, now)
        again = await store.join(1, 77, now)
        assert (again.status, again.prediction) == ("duplicate", None)
        with pytest.raises(TruthConflict, match="77 kcal"):
            await store.join(1, 77.00000000000001, now)
        assert (await store.join(1, 77.0, now)).status == "duplicate"

    play(address, scenario)


@pytest.mark.parametrize(("first", "second"), [(0.0, -0.0), (1e6, 1e6), (5e-324, 5e-324), (0.1 + 0.2, 0.1 + 0.2)])
def test_equal_numbers_are_the_same_truth(address: str, first: float, second: float):
    """To the last bit, but for the sign of nothing."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now))
        await store.join(1, first, now)
        assert (await store.join(1, second, now)).status == "duplicate"

    play(address, scenario)


def test_feedback_in_any_order_finds_its_own_prediction(address: str):
    """Labels that overtake each other are joined by id, not by order."""

    async def scenario(store: JoinStore, now: float) -> None:
        for number in range(5):
            await store.remember(number, prediction(now, kcal=10.0 * number))
        for number in (3, 0, 4, 1, 2):
            assert (await store.join(number, 1.0, now)).prediction.kcal == 10.0 * number

    play(address, scenario)


@pytest.mark.parametrize("other", ["1", "\N{ARABIC-INDIC DIGIT ONE}", " 1", "1\x00", "ü" * 64, "\N{GRINNING FACE}"])
def test_a_number_and_a_text_are_two_ids(address: str, other: str):
    """The id 1 and whatever looks like it are different records, as they are in JSON."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now, kcal=1.0))
        await store.remember(other, prediction(now, kcal=2.0))
        assert (await store.join(other, 5.0, now)).prediction.kcal == 2.0
        assert (await store.join(1, 6.0, now)).prediction.kcal == 1.0

    play(address, scenario)


@pytest.mark.parametrize("record_id", [2**63 - 1, -(2**63), 0])
def test_ids_reach_to_the_ends_of_64_bits(address: str, record_id: int):
    """Both ends are ids like any other."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(record_id, prediction(now))
        assert (await store.join(record_id, 5.0, now)).status == "matched"

    play(address, scenario)


def test_a_record_predicted_again_waits_anew(address: str):
    """The latest prediction of an id is the one that is judged, also after an earlier one was."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now - 2, kcal=10.0))
        await store.remember(1, prediction(now - 1, kcal=20.0))
        assert (await store.join(1, 77.0, now)).prediction.kcal == 20.0
        await store.remember(1, prediction(now, kcal=30.0))
        again = await store.join(1, 88.0, now)
        assert (again.status, again.prediction.kcal) == ("matched", 30.0)

    play(address, scenario)


def test_a_shadow_waits_with_its_prediction_alone(address: str):
    """It is charged with the same truth; one for a prediction that was replaced, or has its truth, is dropped."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now - 2))
        await store.remember(2, prediction(now - 2))
        assert await store.attach(1, now - 2, SHADOW)
        assert not await store.attach(1, now - 1, Shadow(1.0, CHALLENGER))
        assert not await store.attach(3, now - 2, SHADOW)
        assert (await store.join(1, 77.0, now)).prediction.shadow == SHADOW
        assert not await store.attach(1, now - 2, SHADOW)
        assert (await store.join(2, 77.0, now)).prediction.shadow is None

    play(address, scenario)


async def learn(store: JoinStore, number: int, now: float, seen: list[str]) -> None:
    """Send a truth until it is taken: on a busy machine a server may lose its turn for half a second."""
    while True:
        try:
            seen.append((await store.join(number, 7.0, now)).status)
        except StoreUnavailable:
            await anyio.sleep(0.1)
        else:
            return


def test_many_at_once_are_each_joined_once(address: str):
    """Two thousand records, each with three truths that race: one of them matches, whatever the order."""

    async def one(store: JoinStore, number: int, now: float, seen: list[str]) -> None:
        await store.remember(number, prediction(now, kcal=float(number)))

        async with anyio.create_task_group() as racing:
            for _ in range(3):
                racing.start_soon(learn, store, number, now, seen)

    async def scenario(store: JoinStore, now: float) -> None:
        seen: list[str] = []
        with anyio.fail_after(60):
            async with anyio.create_task_group() as crowd:
                for number in range(2000):
                    crowd.start_soon(one, store, number, now, seen)
        assert len(seen) == 6000
        await until(lambda: seen.count("matched") + len(late) == 2000)
        assert set(seen) <= {"matched", "duplicate"}

    late: list[Late] = []
    play(address, scenario, late=late.append)


def test_what_waits_is_counted(address: str):
    """Predictions that wait, not those that were replaced or have their truth; nothing was lost."""

    async def scenario(store: JoinStore, now: float) -> None:
        for number in range(10):
            await store.remember(number, prediction(now))
        await store.remember(3, prediction(now + 0.001))
        await store.join(4, 1.0, now)
        await until(lambda: store.statistics() == StoreStatistics(pending=9, expired=0, overflowed=0))
        assert not store.degraded

    play(address, scenario)


def test_what_expires_is_counted(address: str):
    """A prediction whose truth never came is forgotten after its retention, and counted."""

    async def scenario(store: JoinStore, now: float) -> None:
        for number in range(3):
            await store.remember(number, prediction(now))

        def swept() -> bool:
            store.sweep(time.monotonic(), limit=10)
            return store.statistics() == StoreStatistics(pending=0, expired=3, overflowed=0)

        await until(swept)
        with pytest.raises(UnknownId):
            await store.join(1, 1.0, time.monotonic())

    play(address, scenario, feedback_retention=1.0, feedback_delay=0.1)


def test_a_truth_is_forgotten_after_the_retention_too(address: str):
    """A duplicate that comes long after the truth is unknown, so that memory is bounded in time."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now))
        await store.join(1, 77.0, now)
        assert (await store.join(1, 77.0, now)).status == "duplicate"
        with pytest.raises(UnknownId):
            await joined_again_and_again(store)

    play(address, scenario, feedback_retention=1.0, feedback_delay=0.1)


def test_a_series_is_who_predicted(address: str):
    """Version and role come back as they were given."""

    async def scenario(store: JoinStore, now: float) -> None:
        await store.remember(1, prediction(now))
        assert (await store.join(1, 1.0, now)).prediction.series == CHAMPION

    play(address, scenario)


def test_closing_twice_is_closing_once(address: str):
    """Whoever is not sure closes again."""

    async def go() -> None:
        async with opened(address) as store:
            await store.remember(1, prediction(time.monotonic()))
        await store.aclose()

    anyio.run(go)

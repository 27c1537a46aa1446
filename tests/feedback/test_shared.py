"""A store that replicas share: what a replica does while the server is out of reach, and that nothing counts twice."""

import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from calsvc.feedback.facts import Claim, Prediction
from calsvc.feedback.link import REPLICAS, Link
from calsvc.feedback.store import Late, LateReplacement
from calsvc.http.errors import StoreUnavailable, UnknownId
from observability.signals import STORE_BACK, STORE_DEGRADED, STORE_HELD, STORE_LOST, STORE_RESTORED
from observability.testing import listening
from tests.feedback.stores import CHAMPION, RETENTION, SHADOW, SPAN, opened, prediction
from tests.feedback.test_stores import until
from tests.feedback.wire import Wire, wire
from tests.live.redis_server import DURABLE, FORGETFUL, RedisServer, running_redis
from tests.needs import needs

pytestmark = needs("redis-server")


class Replica:
    """One replica's store, and the truths that were joined late."""

    def __init__(self, store: Any, late: list[Late]) -> None:
        self.store = store
        self.late = late

    async def predict(self, *ids: int) -> None:
        """Remember predictions, all made now."""
        for each in ids:
            await self.store.remember(each, prediction(time.monotonic(), kcal=float(each)))

    async def learn(self, record_id: int, true_kcal: float = 77.0) -> str:
        """Send a truth; `matched`, `duplicate`, or the name of the error."""
        try:
            return (await self.store.join(record_id, true_kcal, time.monotonic())).status
        except (StoreUnavailable, UnknownId) as error:
            return type(error).__name__

    async def learn_at_last(self, record_id: int, true_kcal: float = 77.0) -> str:
        """Send a truth until it is taken or refused for good, as the simulator does."""
        with anyio.fail_after(30):
            while (status := await self.learn(record_id, true_kcal)) == "StoreUnavailable":  # noqa: ASYNC110 - a server
                await anyio.sleep(0.1)
        return status

    def knows(self, number: int) -> bool:
        """Whether it has heard of so many replicas."""
        presence = self.store._presence  # noqa: SLF001
        return presence is not None and len(presence.replicas) == number

    @property
    def lost(self) -> bool:
        """Whether the server is out of its reach."""
        return self.store.degraded


@asynccontextmanager
async def replica(url: str, **settings: Any) -> AsyncIterator[Replica]:
    """Run one."""
    late: list[Late] = []
    async with opened(url, late=late.append, **settings) as store:
        yield Replica(store, late)


@asynccontextmanager
async def replicas(url: str, number: int) -> AsyncIterator[list[Replica]]:
    """Run several."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(replica(url)) for _ in range(number)]


def play(scenario: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run it as the service runs."""
    anyio.run(scenario, *arguments, backend_options={"use_uvloop": True})


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, as docs/store.md wants it."""
    with running_redis(tmp_path / "redis", DURABLE) as server:
        yield server


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own that comes back empty."""
    with running_redis(tmp_path / "redis", FORGETFUL) as server:
        yield server


def waiting(server: RedisServer) -> int:
    """What the server itself says."""
    return sum(map(int, server.client.hvals("calsvc:waiting")))


def test_a_truth_finds_the_prediction_of_another_replica(redis_server: RedisServer):
    """With its span and its shadow, once, whoever asks."""

    async def scenario() -> None:
        async with replicas(redis_server.url, 3) as (one, two, three):
            now = time.monotonic()
            await one.store.remember("a", prediction(now - 10, 81.5, SPAN))
            assert await one.store.attach("a", now - 10, SHADOW)
            joined = await two.store.join("a", 77.0, time.monotonic())
            assert joined.prediction is not None
            assert (joined.prediction.kcal, joined.prediction.span, joined.prediction.shadow) == (81.5, SPAN, SHADOW)
            assert joined.prediction.made_at == pytest.approx(now - 10, abs=0.25)
            assert await three.learn("a") == await one.learn("a") == "duplicate"

    play(scenario)


def test_replicas_that_race_for_a_truth_match_it_once(redis_server: RedisServer):
    """A thousand records, three replicas, each truth sent to all of them at once."""

    async def scenario() -> None:
        async with replicas(redis_server.url, 3) as crowd:
            await crowd[0].predict(*range(1000))
            seen: list[str] = []

            async def learn(each: Replica, record_id: int) -> None:
                seen.append(await each.learn(record_id))

            async with anyio.create_task_group() as racing:
                for record_id in range(1000):
                    for each in crowd:
                        racing.start_soon(learn, each, record_id)
            assert (seen.count("matched"), seen.count("duplicate")) == (1000, 2000)

    play(scenario)


def test_what_waits_is_told_by_every_replica(redis_server: RedisServer):
    """All of it, whoever has predicted; and what expires is counted by one of them."""

    async def scenario() -> None:
        async with replica(redis_server.url) as one, replica(redis_server.url) as two:
            await one.predict(1, 2, 3)
            await two.predict(4, 5)
            await one.learn(4)
            await until(lambda: one.store.statistics().pending == two.store.statistics().pending == 4)

    play(scenario)


# --- the server is out of reach ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_predictions_go_on_while_the_server_is_lost_and_are_there_when_it_is_back(
    durable: RedisServer, how: signal.Signals
):
    """Killed or hanging: predictions are taken, truths refused, once; afterwards each truth finds its prediction."""

    async def scenario() -> None:
        async with replicas(durable.url, 2) as (one, two):
            await one.predict(*range(100))
            assert await two.learn(0) == "matched"
            await anyio.to_thread.run_sync(durable.signal, how)
            await one.predict(*range(100, 200))
            assert one.lost
            assert await one.learn(1) == await two.learn(1) == await one.learn(100) == "StoreUnavailable"
            back = durable.start if how is signal.SIGKILL else lambda: durable.signal(signal.SIGCONT)
            await anyio.to_thread.run_sync(back)
            seen = [await (one, two)[each % 2].learn_at_last(each) for each in range(1, 200)]
            assert seen.count("matched") + len(one.late) + len(two.late) == 199
            assert set(seen) <= {"matched", "duplicate"}
            await until(lambda: one.store.statistics().pending == two.store.statistics().pending == 0)

    with listening() as listener:
        play(scenario)
    told = [told.event for told in listener.told]
    assert (told.count(STORE_DEGRADED), told.count(STORE_BACK), told.count(STORE_LOST)) == (2, 2, 0)


def test_a_truth_whose_answer_was_lost_is_charged_once(redis_server: RedisServer):
    """The server joined it, and the replica does not know: it charges it when it does, and the retry is a duplicate."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(cable.url) as one, replica(redis_server.url) as two:
            await one.predict(1, 2)
            cable.answers = False
            assert await one.learn(1) == "StoreUnavailable"
            assert await two.learn(1) == "duplicate"
            assert one.late == []
            restore(cable)
            await until(lambda: not one.lost)
            assert [(each.prediction.kcal, each.true_kcal) for each in one.late] == [(1.0, 77.0)]
            assert await one.learn(1) == "duplicate"
            assert await one.learn(2) == "matched"
            assert len(one.late) == 1

    play(scenario)


def test_a_truth_that_never_arrived_is_joined_later_and_once(redis_server: RedisServer):
    """Its sender was told to come again: whoever is first charges it, the other one does not."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(cable.url) as one, replica(redis_server.url) as two:
            await one.predict(1, 2)
            cable.requests = False
            assert await one.learn(1) == "StoreUnavailable"
            assert await two.learn(1) == "matched"
            restore(cable)
            await until(lambda: not one.lost)
            assert one.late == []

    play(scenario)


def test_a_prediction_whose_answer_was_lost_does_not_wait_a_second_time(redis_server: RedisServer):
    """It had arrived and has its truth already: telling it again must not let it wait once more."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(cable.url) as one, replica(redis_server.url) as two:
            cable.answers = False
            await one.predict(1)
            assert one.lost
            assert await two.learn(1) == "matched"
            restore(cable)
            await until(lambda: not one.lost)
            assert await two.learn(1) == "duplicate"
            assert waiting(redis_server) == 0

    play(scenario)


def test_a_later_prediction_is_not_replaced_by_one_that_was_held(redis_server: RedisServer):
    """The latest prediction of an id is judged, in whichever order the server hears of them."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(cable.url) as one, replica(redis_server.url) as two:
            cable.requests = False
            await one.predict(1)
            await anyio.sleep(0.01)
            await two.store.remember(1, prediction(time.monotonic(), kcal=500.0))
            restore(cable)
            await until(lambda: not one.lost)
            joined = await two.store.join(1, 77.0, time.monotonic())
            assert joined.prediction is not None
            assert joined.prediction.kcal == 500.0

    play(scenario)


def replacements(one: Replica) -> int:
    """How many predictions turned out later to have been replaced."""
    return sum(isinstance(each, LateReplacement) for each in one.late)


def test_a_prediction_that_is_replaced_is_told_once(redis_server: RedisServer):
    """With its time, exactly where the same replica made it, and nearly where another did."""

    async def scenario() -> None:
        async with replicas(redis_server.url, 2) as (one, two):
            now = time.monotonic()
            assert await one.store.remember(1, prediction(now - 20)) is None
            assert await one.store.remember(1, prediction(now - 10)) == now - 20
            assert await two.store.remember(1, prediction(now)) == pytest.approx(now - 10, abs=0.25)
            assert await two.learn(1) == "matched"
            assert await two.store.remember(1, prediction(now)) is None

    play(scenario)


@pytest.mark.parametrize("direction", ["requests", "answers"])
def test_what_was_replaced_during_an_outage_is_told_afterwards(redis_server: RedisServer, direction: str):
    """Whether the server had not heard of the later prediction, or had and its answer was lost."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(cable.url) as one:
            now = time.monotonic()
            await one.store.remember(1, prediction(now - 3))
            await one.store.remember(2, prediction(now - 3))
            setattr(cable, direction, False)
            assert await one.store.remember(1, prediction(now - 2)) is None
            assert one.lost
            assert await one.store.remember(1, prediction(now - 1)) is None
            restore(cable)
            await until(lambda: not one.lost)
            assert sorted(one.late) == [LateReplacement(now - 3), LateReplacement(now - 2)]
            assert await one.learn(1) == await one.learn(2) == "matched"

    play(scenario)


def test_a_prediction_that_was_held_until_a_later_one_was_made_elsewhere_is_replaced(redis_server: RedisServer):
    """The server hears of the later one first: the earlier one never waits."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(cable.url) as one, replica(redis_server.url) as two:
            cable.requests = False
            await one.predict(1)
            await anyio.sleep(0.01)
            await two.predict(1)
            restore(cable)
            await until(lambda: not one.lost)
            assert (replacements(one), replacements(two)) == (1, 0)

    play(scenario)


def test_what_was_replaced_is_not_told_again_to_a_server_that_has_forgotten_all(forgetful: RedisServer):
    """Both predictions are given back to it, and the earlier one was counted before."""

    async def scenario() -> None:
        async with replica(forgetful.url) as one:
            now = time.monotonic()
            await one.store.remember(1, prediction(now - 2))
            assert await one.store.remember(1, prediction(now - 1)) == now - 2
            await anyio.to_thread.run_sync(forgetful.signal, signal.SIGKILL)
            await until(lambda: one.lost)
            await anyio.to_thread.run_sync(forgetful.start)
            await until(lambda: not one.lost)
            assert replacements(one) == 0
            assert await one.learn_at_last(1) == "matched"

    play(scenario)


def test_an_id_is_not_called_unknown_while_another_replica_may_hold_it(redis_server: RedisServer):
    """One replica has lost the server, the other has not: the truth shall come again, and matches in the end."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(cable.url) as one, replica(redis_server.url) as two:
            cable.requests = False
            await one.predict(1)
            await until_unsure(two)
            restore(cable)
            assert await two.learn_at_last(1) == "matched"
            assert await two.learn_at_last(99) == "UnknownId"

    play(scenario)


def test_a_replica_that_left_in_order_is_not_waited_for(redis_server: RedisServer):
    """What it held it has told; so an unknown id is unknown at once."""

    async def scenario() -> None:
        async with replica(redis_server.url) as two:
            async with replica(redis_server.url) as one:
                await one.predict(1)
            assert await two.learn(99) == "UnknownId"
            assert await two.learn(1) == "matched"

    play(scenario)


def test_a_replica_that_leaves_tells_first_what_it_held(redis_server: RedisServer):
    """Told to go during an outage that ends just then: nothing of it is lost."""

    async def scenario() -> None:
        async with wire(redis_server.url) as cable, replica(redis_server.url) as two:
            async with replica(cable.url) as one:
                cable.requests = False
                await one.predict(1, 2, 3)
                restore(cable)
            assert [await two.learn_at_last(each) for each in (1, 2, 3)] == ["matched"] * 3

    with listening() as listener:
        play(scenario)
    assert STORE_LOST not in [told.event for told in listener.told]


def test_a_replica_that_leaves_during_an_outage_leaves_what_it_holds_to_the_next(durable: RedisServer, tmp_path: Path):
    """The prediction, its shadow and its true age, although its name is another now."""
    folder = tmp_path / "held"

    async def scenario() -> None:
        async with replica(durable.url, store_held=folder) as one:
            await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
            made_at = time.monotonic() - 10
            await one.store.remember(1, prediction(made_at, 81.5, SPAN))
            assert await one.store.attach(1, made_at, SHADOW)
            await one.predict(2, 3)
        await anyio.to_thread.run_sync(durable.start)
        async with replica(durable.url, store_held=folder) as two:
            await until(lambda: not two.lost)
            joined = await two.store.join(1, 77.0, time.monotonic())
            assert joined.prediction is not None
            assert (joined.prediction.kcal, joined.prediction.span, joined.prediction.shadow) == (81.5, SPAN, SHADOW)
            assert joined.prediction.made_at == pytest.approx(made_at, abs=0.25)
            assert await two.learn(2) == await two.learn(3) == "matched"
            await until(lambda: not list(folder.iterdir()))

    with listening() as listener:
        play(scenario)
    (held,) = [told.attributes for told in listener.told if told.event == STORE_HELD]
    (restored,) = [told.attributes for told in listener.told if told.event == STORE_RESTORED]
    assert held["predictions"] == restored["waiting"] == 3
    assert Path(str(held["file"])).parent == Path(str(restored["file"])) == folder


def test_a_replica_takes_over_what_another_leaves_later(durable: RedisServer, tmp_path: Path):
    """It had started before the other one was gone: until it has the file, nothing is called unknown."""
    folder = tmp_path / "held"

    async def scenario() -> None:
        async with AsyncExitStack() as leaving:
            one = await leaving.enter_async_context(replica(durable.url, store_held=folder))
            await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
            await one.predict(1, 2)
            await until(lambda: any(each.stat().st_size for each in folder.glob("*")))
            one.store._link = Link("redis://127.0.0.1:1/0", b"replica", RETENTION)  # noqa: SLF001 - it never comes back
            await anyio.to_thread.run_sync(durable.start)
            durable.client.flushall()
            two = await leaving.enter_async_context(replica(durable.url, store_held=folder))
            assert await two.learn(1) == "StoreUnavailable"
            await anyio.sleep(1)
            assert await two.learn(1) == "StoreUnavailable"
            await one.store.aclose()
            assert await two.learn_at_last(1) == "matched"
            assert await two.learn_at_last(2) == "matched"
            assert await two.learn_at_last(99) == "UnknownId"

    play(scenario)


def test_nobody_waits_for_a_replica_whose_file_was_taken_over(durable: RedisServer, tmp_path: Path):
    """It did not take leave; but all that it held was told, so what is unknown is known to be."""

    async def scenario() -> None:
        async with replica(durable.url) as two:
            async with replica(durable.url, store_held=tmp_path) as one:
                await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
                await one.predict(1)
            await anyio.to_thread.run_sync(durable.start)
            await until_unsure(two)
            async with replica(durable.url, store_held=tmp_path):
                assert await two.learn_at_last(1) == "matched"
                begun = time.monotonic()
                assert await two.learn_at_last(99) == "UnknownId"
                assert time.monotonic() - begun < 20

    play(scenario)


def test_what_is_held_has_a_bound_in_its_file_too(durable: RedisServer, tmp_path: Path):
    """The oldest go, here and there."""
    folder = tmp_path / "held"

    async def scenario() -> None:
        async with replica(durable.url, store_held=folder, store_backlog=10) as one:
            await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
            for number in range(100):
                await one.predict(number)
                await anyio.sleep(0.03)
        await anyio.to_thread.run_sync(durable.start)
        async with replica(durable.url, store_held=folder) as two:
            await until(lambda: not two.lost)
            assert [await two.learn_at_last(each) for each in range(90, 100)] == ["matched"] * 10
            assert waiting(durable) == 0

    play(scenario)


def test_a_replica_that_leaves_and_cannot_write_says_what_is_lost(durable: RedisServer, tmp_path: Path):
    """It does not wait for long, and it is not silent."""
    (tmp_path / "file").touch()

    async def scenario() -> None:
        async with replica(durable.url, store_held=tmp_path / "file" / "held") as one:
            await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
            await one.predict(1, 2, 3)

    with listening() as listener:
        play(scenario)
    (lost,) = [told for told in listener.told if told.event == STORE_LOST]
    assert lost.attributes == {"predictions": 3}


@pytest.mark.parametrize("what", ["forgotten everything", "had its clock set"])
def test_nothing_is_called_unknown_until_everything_was_given_back(redis_server: RedisServer, what: str):
    """A server has lost what it knew; a replica that still sends its signs of life may have it all the same."""

    async def scenario() -> None:
        link = Link(redis_server.url, b"replica", RETENTION)
        call = Claim(1, 77.0, time.monotonic(), b"claim").call(time.monotonic())
        await link.presence("come", in_touch=0, others=[])
        assert await link.send([call]) == [[b"unknown"]]
        if what == "forgotten everything":
            redis_server.client.flushall()
        else:
            redis_server.client.zadd(REPLICAS, {b"replica": (time.time() - 3600) * 1e3})
        presence = await link.presence("stay", in_touch=10, others=[])
        assert not presence.here
        assert await link.send([call]) == [[b"unsure"]]
        assert (await link.presence("come", in_touch=10, others=[])).here
        assert await link.send([call]) == [[b"unknown"]]
        assert (await link.presence("stay", in_touch=10, others=[])).here
        await link.aclose()

    play(scenario)


def test_connections_are_renewed_while_others_are_in_use(redis_server: RedisServer):
    """Nothing that is under way notices."""

    async def scenario() -> None:
        link = Link(redis_server.url, b"replica", RETENTION)

        async def send(first: int) -> None:
            for number in range(first, first + 500):
                call = Prediction(number, time.monotonic(), 80.0, CHAMPION, None, b"nonce").call(time.monotonic())
                assert await link.send([call]) == [[b"ok"]]

        async def renew() -> None:
            for _ in range(200):
                await link.renew()
                await anyio.sleep(0.002)

        async with anyio.create_task_group() as tasks:
            for lane in range(3):
                tasks.start_soon(send, 500 * lane)
            tasks.start_soon(renew)
        await link.aclose()

    play(scenario)


def test_a_replica_comes_up_without_the_server(durable: RedisServer):
    """A server that is not there yet is no reason not to answer predictions."""

    async def scenario() -> None:
        await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
        async with replica(durable.url) as one:
            assert one.lost
            await one.predict(1)
            await anyio.to_thread.run_sync(durable.start)
            assert await one.learn_at_last(1) == "matched"

    play(scenario)


def test_what_is_held_is_bounded(durable: RedisServer):
    """Of a long outage the latest predictions are kept, and the others counted."""

    async def scenario() -> None:
        async with replica(durable.url, store_backlog=10) as one:
            await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
            await one.predict(*range(25))
            assert one.store.statistics().overflowed == 15
            await anyio.to_thread.run_sync(durable.start)
            assert [await one.learn_at_last(each) for each in (14, 15, 24)] == ["UnknownId", "matched", "matched"]

    play(scenario)


def test_no_more_wait_at_the_server_than_may(redis_server: RedisServer):
    """Past the bound predictions are answered and not remembered, which is counted."""

    async def scenario() -> None:
        async with replica(redis_server.url, max_pending=10) as one:
            await one.predict(*range(10))
            await until(lambda: one.store.statistics().pending == 10)
            await one.predict(10)
            assert one.store.statistics().overflowed == 1
            assert await one.learn(10) == "UnknownId"
            assert await one.learn(0) == "matched"
            await until(lambda: one.store.statistics().pending == 9)
            await one.predict(11)
            assert await one.learn(11) == "matched"

    play(scenario)


# --- the server forgets -----------------------------------------------------------------------------------------------


def test_a_server_that_comes_back_empty_is_given_all_that_the_replicas_know(forgetful: RedisServer):
    """Predictions by whoever made them, truths by whoever joined them: nothing is lost, nothing matches twice."""

    async def scenario() -> None:
        async with replicas(forgetful.url, 3) as (one, two, three):
            await one.predict(*range(100))
            await two.predict(*range(100, 200))
            for each in range(0, 200, 2):
                assert await three.learn(each) == "matched"
            await anyio.to_thread.run_sync(forgetful.signal, signal.SIGKILL)
            await two.predict(200)
            await anyio.to_thread.run_sync(forgetful.start)
            assert forgetful.client.dbsize() == 0
            seen = [await three.learn_at_last(each) for each in range(201)]
            assert seen == ["duplicate", "matched"] * 100 + ["matched"]

    play(scenario)


def test_a_server_that_is_emptied_under_way_is_filled_again(redis_server: RedisServer):
    """Noticed by nothing but the heartbeat of each: what is missing meanwhile is not called unknown."""

    async def scenario() -> None:
        async with replicas(redis_server.url, 3) as crowd:
            await until(lambda: all(each.knows(3) for each in crowd))
            for number, each in enumerate(crowd):
                await each.predict(*range(number, 300, 3))
                assert [await each.learn(number + 3 * other) for other in range(50)] == ["matched"] * 50
            redis_server.client.flushall()
            assert await crowd[0].learn(299) == "StoreUnavailable"
            seen = [await crowd[0].learn_at_last(each) for each in range(300)]
            assert seen == ["duplicate"] * 150 + ["matched"] * 150

    play(scenario)


def test_what_is_given_back_keeps_its_age_and_its_shadow(redis_server: RedisServer):
    """It waits on for the rest of its time, no longer."""

    async def scenario() -> None:
        async with replica(redis_server.url) as one:
            await one.store.remember(1, prediction(time.monotonic() - 100))
            redis_server.client.flushall()
            await until(lambda: bool(redis_server.client.exists("calsvc:i:1")))
            left = redis_server.client.pttl("calsvc:i:1") / 1e3
            assert left == pytest.approx(RETENTION - 100, abs=20)
            joined = await one.store.join(1, 77.0, time.monotonic())
            assert time.monotonic() - joined.prediction.made_at == pytest.approx(100, abs=20)

    play(scenario)


@pytest.mark.parametrize("junk", ["a text", "a list", "MessagePack"])
def test_a_key_that_is_no_record_keeps_nobody_from_theirs(redis_server: RedisServer, junk: str):
    """Somebody else has written under our name: it counts as nothing, and all others are as they were."""

    async def scenario() -> None:
        async with replica(redis_server.url) as one:
            if junk == "a list":
                redis_server.client.rpush("calsvc:i:1", "x")
            else:
                redis_server.client.set("calsvc:i:1", "x" if junk == "a text" else b"\x93\x01\x02\x03")
            await one.predict(2)
            assert await one.learn(1) == "UnknownId"
            await one.predict(1)
            assert [await one.learn(1), await one.learn(2)] == ["matched"] * 2
            assert not one.lost

    play(scenario)


@pytest.mark.parametrize("refusal", ["out of memory", "read only", "a password"])
def test_a_server_that_refuses_is_out_of_reach(tmp_path: Path, refusal: str):
    """Whatever it says: predictions are held until it takes them."""

    async def scenario(server: RedisServer) -> None:
        async with replica(server.url) as one:
            await one.predict(1)
            config = {
                "out of memory": ("maxmemory", "1mb", "0"),
                "read only": ("min-replicas-to-write", "1", "0"),
                "a password": ("requirepass", "secret", ""),
            }[refusal]
            server.client.config_set(*config[:2])
            if refusal == "a password":
                server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: one.lost)
            await one.predict(2)
            assert await one.learn(1) == "StoreUnavailable"
            server.client.config_set(config[0], config[2])
            assert [await one.learn_at_last(each) for each in (1, 2)] == ["matched"] * 2

    with running_redis(tmp_path / "redis", FORGETFUL) as server, listening() as listener:
        play(scenario, server)
    (told,) = [told for told in listener.told if told.event == STORE_DEGRADED]
    assert "secret" not in str(told.attributes)


def test_a_lost_server_is_noticed_without_traffic(durable: RedisServer):
    """By the heartbeat: the gauge says so although nobody predicts."""

    async def scenario() -> None:
        async with replica(durable.url) as one:
            await anyio.to_thread.run_sync(durable.signal, signal.SIGKILL)
            await until(lambda: one.lost)

    play(scenario)


def restore(cable: Wire) -> None:
    """Let everything through again, on connections that know nothing of what was lost."""
    cable.cut()
    cable.answers = cable.requests = True


async def until_unsure(other: Replica) -> None:
    """Wait until a replica that is well does not call the id 1 unknown: the heartbeat of the other is missing."""
    with anyio.fail_after(30):
        while await other.learn(98) != "StoreUnavailable":  # noqa: ASYNC110 - a heartbeat that does not come
            await anyio.sleep(0.1)

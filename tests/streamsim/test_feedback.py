"""Truths leave when they are due, in order, until the service has settled them."""

import heapq
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from streamsim.answers import Answer, Cause
from streamsim.books import Books
from streamsim.client import open_client
from streamsim.clocks import Clocks
from streamsim.feedback import DueHeap, FeedbackScheduler, definitive
from streamsim.journal import Journal, open_journal
from streamsim.record import Recorder, open_record
from streamsim.tally import Tally
from tests.clock import Clock
from tests.streamsim.fakes import CountingService

items = st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**32 - 1)), max_size=60)


@given(items=items, now=st.integers(0, 2**40))
def test_the_packed_heap_is_a_heap_of_pairs(items: list[tuple[int, int]], now: int):
    """It gives out what is due in the order of (time, row), and keeps the rest."""
    heap, naive = DueHeap(), list[tuple[int, int]]()
    for due_ms, row in items:
        heap.push(due_ms, row)
        heapq.heappush(naive, (due_ms, row))
    while naive and naive[0][0] <= now:
        assert heap.next_due_ms() == naive[0][0]
        assert heap.due(now) == sum(due_ms <= now for due_ms, _ in naive)
        assert heap.pop_due(now) == heapq.heappop(naive)[1]
    assert heap.pop_due(now) is None
    assert heap.due(now) == 0
    assert len(heap) == len(naive)
    assert heap.next_due_ms() == (naive[0][0] if naive else None)


@pytest.mark.parametrize(("due_ms", "row"), [(-1, 0), (0, -1), (0, 2**32)])
def test_what_cannot_be_packed_is_refused(due_ms: int, row: int):
    """A time before the start, or a row that would run into the time."""
    with pytest.raises(ValueError, match="cannot pack"):
        DueHeap().push(due_ms, row)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(Cause.OK, 200, {"id": 1, "status": "matched"}), "matched"),
        (Answer(Cause.OK, 200, {"id": 1, "status": "duplicate"}), "duplicate"),
        (Answer(Cause.HTTP_4XX, 404, {"type": "urn:calsvc:problem:unknown-id"}), "unknown"),
        (Answer(Cause.HTTP_4XX, 404, {"id": 1, "status": "unknown"}), "unknown"),
        (Answer(Cause.HTTP_4XX, 404, {"type": "urn:calsvc:problem:not-found"}), None),
        (Answer(Cause.HTTP_4XX, 404), None),
        (Answer(Cause.HTTP_4XX, 409), "conflict"),
        (Answer(Cause.HTTP_4XX, 422), "rejected"),
        (Answer(Cause.HTTP_4XX, 401), None),
        (Answer(Cause.HTTP_4XX, 403), None),
        (Answer(Cause.HTTP_4XX, 429), None),
        (Answer(Cause.HTTP_503, 503), None),
        (Answer(Cause.BAD_ANSWER, 200), None),
        (Answer(Cause.REFUSED), None),
    ],
)
def test_only_definitive_answers_settle_a_truth(answer: Answer, status: str | None):
    """Everything else leaves it owed: refusals, and a 404 of a proxy or of a wrong path."""
    assert definitive(answer) == status


class Desk:
    """A scheduler on clocks of its own, with three acknowledged truths (ids 0, 1, 2) in its journal, due at 1300.

    A truth is given up ten seconds after that.
    """

    def __init__(self, service: CountingService, journal: Journal, clocks: Clocks, recorder: Recorder) -> None:
        assert isinstance(clocks.monotonic, Clock)
        assert isinstance(clocks.wall, Clock)
        self.monotonic, self.wall = clocks.monotonic, clocks.wall
        self.clocks = clocks
        self.journal = journal
        self.recorder = recorder
        self.service = service
        self.tally = Tally()
        self.rows = [journal.intend(str(n), n + 0.5, 1_000.0, 1_300.0) for n in range(3)]
        for n, row in enumerate(self.rows):
            journal.acknowledge(row, 1.0, 1_000.0, 1_300.0)
            service.predicted[n] = 1.0

    @asynccontextmanager
    async def scheduler(self) -> AsyncIterator[FeedbackScheduler]:
        """A running scheduler, cancelled at the end."""
        async with open_client(self.service.url, 5) as client, anyio.create_task_group() as group:
            books = Books(self.journal, self.recorder, self.tally)
            scheduler = FeedbackScheduler(client, books, self.clocks, give_up_after=10.0)
            group.start_soon(scheduler.run, group)
            yield scheduler
            group.cancel_scope.cancel()

    async def first_failure(self) -> None:
        """Wait until a delivery is to be tried again."""
        with anyio.fail_after(10):
            while not self.tally.retries:
                await anyio.lowlevel.checkpoint()


@pytest.fixture
def desk(tmp_path: Path, service: CountingService) -> Iterator[Desk]:
    """A desk with an open journal and a record, at 1000 by the wall clock."""
    clocks = Clocks(Clock(50.0), Clock(1_000.0))
    with (
        open_journal(tmp_path / "owed.db", clocks) as journal,
        open_record(tmp_path / "record.ndjson", append=False) as recorder,
    ):
        yield Desk(service, journal, clocks, recorder)


@pytest.mark.anyio
async def test_a_truth_is_sent_when_it_is_due_and_not_before(desk: Desk):
    """After 10 s on the clock those due at 5 s and 10 s are sent; the one due 1 ms later waits."""
    async with desk.scheduler() as scheduler:
        for row, delay in zip(desk.rows, (10.0, 10.001, 5.0), strict=True):
            scheduler.owe(row, delay)
        desk.monotonic.now += 10.0
        scheduler.owe(desk.journal.intend("9", 1.0, 0, 0), 0.0)  # wakes the scheduler to the clock that was moved
        await desk.service.until(lambda: desk.service.statuses.total() == 3)
    assert set(desk.service.truths) == {0, 2}
    assert desk.service.statuses == {"matched": 2, "unknown": 1}
    assert [owed.id_json for owed in desk.journal] == ["1"]


@pytest.mark.anyio
@pytest.mark.parametrize("step", [0.0, 3600.0, -3600.0])
@pytest.mark.parametrize("passed", [299.0, 301.0])
async def test_resumed_truths_keep_their_due_time(desk: Desk, step: float, passed: float):
    """Due in 1 s: after 1 s; past due: at once. Nobody looks at the wall clock, wherever it was set to."""
    desk.monotonic.now += passed
    desk.wall.now += step
    async with desk.scheduler() as scheduler:
        scheduler.resume(desk.journal.get(desk.rows[0]))
        desk.monotonic.now += max(0.0, 300.0 - passed)
        scheduler.owe(desk.rows[1], 0.0)
        await desk.service.until(lambda: len(desk.service.truths) == 2)
    assert set(desk.service.truths) == {0, 1}


@pytest.mark.anyio
async def test_a_truth_that_fails_stays_owed_and_is_tried_again(desk: Desk):
    """A 503 is counted, noted in the journal, and followed by the same truth once more."""

    async def overloaded_once(_path: str, number: int) -> web.Response | None:
        return web.Response(status=503) if number == 1 else None

    desk.service.gate = overloaded_once
    async with desk.scheduler() as scheduler:
        scheduler.owe(desk.rows[0], 0.0)
        await desk.service.until(lambda: desk.service.requests["feedback"] == 1)
        await desk.first_failure()
        assert desk.journal.get(desk.rows[0]).attempts == 1
        await anyio.wait_all_tasks_blocked()
        assert scheduler.deliveries() == (1, 0)  # due, although it waits to be tried again
        desk.monotonic.now += 0.5
        scheduler.owe(desk.rows[1], 0.0)
        await desk.service.until(lambda: len(desk.service.truths) == 2)
    assert desk.tally.retries == {Cause.HTTP_503: 1}
    assert set(desk.service.truths) == {0, 1}


def settled(folder: Path) -> list[tuple[int, str, float]]:
    """What the record says of truths: id, status, and when."""
    lines = [json.loads(line) for line in (folder / "record.ndjson").read_text().splitlines()]
    return [(line["id"], line["status"], line["answered_at"]) for line in lines if line["event"] == "feedback"]


@pytest.mark.anyio
async def test_a_truth_that_fails_after_its_time_is_given_up(desk: Desk, tmp_path: Path):
    """It leaves the journal, is counted by the reason and recorded; one that failed a moment earlier stays owed."""

    async def never(_path: str, _number: int) -> web.Response:
        return web.Response(status=503)

    desk.service.gate = never
    desk.monotonic.now += 309.75
    async with desk.scheduler() as scheduler:
        scheduler.resume(desk.journal.get(desk.rows[0]))
        await desk.first_failure()
        desk.monotonic.now += 0.25
        scheduler.resume(desk.journal.get(desk.rows[1]))
        with anyio.fail_after(10):
            while desk.tally.given_up.total() < 2:
                await anyio.lowlevel.checkpoint()
    assert desk.tally.given_up == {Cause.HTTP_503: 2}
    assert desk.tally.retries == {Cause.HTTP_503: 1}
    assert sorted(settled(tmp_path)) == [(0, "given_up", 1310.0), (1, "given_up", 1310.0)]
    assert [owed.id_json for owed in desk.journal] == ["2"]
    assert desk.service.requests["feedback"] == 3


@pytest.mark.anyio
async def test_the_last_try_is_made_when_the_time_is_over(desk: Desk):
    """A truth that would be tried again in 15 s or more, and is given up in 5 s, is tried in 5 s: that one succeeds."""

    async def late(_path: str, number: int) -> web.Response | None:
        return web.Response(status=503) if number == 1 else None

    desk.service.gate = late
    for _ in range(20):
        desk.journal.count_attempt(desk.rows[0])
    desk.monotonic.now += 305.0
    async with desk.scheduler() as scheduler:
        scheduler.resume(desk.journal.get(desk.rows[0]))
        await desk.first_failure()
        desk.monotonic.now += 5.0
        scheduler.owe(desk.rows[1], 0.0)  # wakes the scheduler to the clock that was moved
        await desk.service.until(lambda: len(desk.service.truths) == 2)
    assert desk.tally.given_up == {}


@pytest.mark.anyio
async def test_a_truth_is_tried_in_every_run_that_takes_it_on(desk: Desk):
    """Long past its time, it is sent once more before it would be given up."""
    desk.monotonic.now += 86_400.0
    async with desk.scheduler() as scheduler:
        scheduler.resume(desk.journal.get(desk.rows[0]))
        await desk.service.until(lambda: len(desk.service.truths) == 1)
    assert (desk.tally.delivered, desk.tally.given_up) == ({"matched": 1}, {})


@pytest.mark.anyio
async def test_patience_starts_anew_for_a_process_that_stood_still(desk: Desk):
    """Stopped for an hour while it waits at the end: what was under way is still waited for, as long as before."""
    hold = anyio.Event()

    async def stop(_path: str, _number: int) -> None:
        desk.monotonic.now += 3600.0
        await hold.wait()

    async def drain() -> None:
        await scheduler.drain(0.2)
        left.set()

    left = anyio.Event()
    desk.service.gate = stop
    async with desk.scheduler() as scheduler, anyio.create_task_group() as group:
        scheduler.owe(desk.rows[0], 0.0)
        group.start_soon(drain)
        await desk.service.until(lambda: desk.service.requests["feedback"] == 1)
        with anyio.move_on_after(1):  # by a clock that stands still the patience never ends
            await left.wait()
        assert not left.is_set()
        hold.set()
        with anyio.fail_after(10):
            await left.wait()
    assert set(desk.service.truths) == {0}


@pytest.mark.anyio
async def test_at_most_64_truths_are_under_way(desk: Desk):
    """A backlog of 200 that is due at once meets a service that does not answer: 64 requests, no more."""
    hold = anyio.Event()

    async def hold_all(_path: str, number: int) -> None:
        if number == 64:
            hold.set()
        await anyio.sleep_forever()

    desk.service.gate = hold_all
    async with desk.scheduler() as scheduler:
        for n in range(200):
            scheduler.owe(desk.journal.intend(str(n), 1.0, 0, 0), 0.0)
        with anyio.fail_after(10):
            await hold.wait()
        await anyio.wait_all_tasks_blocked()
        assert scheduler.deliveries() == (200, 64)
    assert desk.service.requests["feedback"] == 64

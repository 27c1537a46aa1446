"""One sampler for all: history, identical bytes, and readers who are slow."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.responses import StreamingResponse
from starlette.types import Message

from calsvc.lifecycle import Lifecycle
from calsvc.service import create_service
from calsvc.settings import Settings
from calsvc.web.routes import MAX_PAGES, Page, stream
from calsvc.web.sampler import KEPT
from calsvc.web.snapshot import CHARTED
from observability.telemetry import Telemetry
from tests.clock import Clock
from tests.test_app import Service


@dataclass
class Watch:
    """A page's data on a service without a model, looked at when the test says so; `looked`: how often that was."""

    clock: Clock = field(default_factory=Clock)
    looked: int = 0

    def __post_init__(self) -> None:
        self.telemetry = Telemetry({})
        self.service = create_service(Settings(store="memory://"), self.telemetry, Lifecycle(), self.clock)
        self.page = Page(self.service, self.wall)
        self.feed = self.page.sampler.feed

    def wall(self) -> float:
        """Seconds since the epoch; asked once for each snapshot."""
        self.looked += 1
        return self.clock.now

    def look(self, times: int = 1) -> None:
        """Take snapshots, a second apart."""
        for _ in range(times):
            self.clock.now += 1
            self.page.sampler.sample()


@dataclass
class Reader:
    """The client's end of one stream."""

    received: list[bytes] = field(default_factory=list)
    gate: anyio.Event | None = None
    gone: anyio.Event = field(default_factory=anyio.Event)

    async def receive(self) -> Message:
        """Nothing more comes from a client until it goes."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take an event, as soon as the gate lets it through."""
        if self.gate is not None:
            await self.gate.wait()
        if message["type"] == "http.response.body" and message["body"]:
            self.received.append(message["body"])

    async def read(self, page: Page) -> None:
        """Open the stream and stay."""
        await StreamingResponse(stream(page))({"type": "http", "method": "GET"}, self.receive, self.send)


def play(scenario: Callable[[Watch], Awaitable[None]]) -> None:
    """Run a scenario on a new page."""

    async def run() -> None:
        watch = Watch()
        with anyio.fail_after(30):
            await scenario(watch)
        watch.telemetry.shutdown()

    anyio.run(run)


def content(event: bytes) -> Any:
    """The JSON of an event."""
    return json.loads(event.split(b"data: ", 1)[1])


def test_history_holds_ten_minutes_and_no_more():
    """The oldest point goes; each point has a value for every column."""

    async def scenario(watch: Watch) -> None:
        watch.look(KEPT + 50)
        history = content(watch.feed.history())
        assert [point[0] for point in history["points"]] == [1051.0 + second for second in range(KEPT)]
        assert tuple(history["about"]["columns"]) == CHARTED
        assert {len(point) for point in history["points"]} == {len(CHARTED)}
        assert history["now"]["at"] == history["points"][-1][0]

    play(scenario)


def test_a_clock_that_is_set_back_begins_a_new_history():
    """Time runs forward in every chart."""

    async def scenario(watch: Watch) -> None:
        watch.look(5)
        watch.clock.now -= 3600
        watch.look(2)
        times = [point[0] for point in content(watch.feed.history())["points"]]
        assert times == sorted(times)
        assert len(times) == 2

    play(scenario)


def test_a_hundred_readers_cost_one_snapshot_and_get_the_same_bytes():
    """One look and one encoding, whoever watches; the very same object goes to all."""

    async def scenario(watch: Watch) -> None:
        watch.look(3)
        readers = [Reader() for _ in range(100)]
        async with anyio.create_task_group() as tasks:
            for reader in readers:
                tasks.start_soon(reader.read, watch.page)
            await anyio.wait_all_tasks_blocked()
            for _ in range(4):
                watch.look()
                await anyio.wait_all_tasks_blocked()
            assert watch.page.open == 100
            assert watch.looked == 3 + 4
            assert [len(reader.received) for reader in readers] == [1 + 4] * 100
            for number in range(1, 5):
                assert len({id(reader.received[number]) for reader in readers}) == 1
            assert len({reader.received[0] for reader in readers}) == 1
            watch.feed.close()
        assert watch.page.open == 0

    play(scenario)


def test_who_is_slow_skips_and_nothing_piles_up():
    """A reader that takes nothing for a while goes on with the newest; others notice nothing."""

    async def scenario(watch: Watch) -> None:
        watch.look()
        slow, quick = Reader(gate=anyio.Event()), Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow.read, watch.page)
            tasks.start_soon(quick.read, watch.page)
            for _ in range(50):
                await anyio.wait_all_tasks_blocked()
                watch.look()
            await anyio.wait_all_tasks_blocked()
            assert len(quick.received) == 1 + 50
            assert slow.gate is not None
            slow.gate.set()
            await anyio.wait_all_tasks_blocked()
            watch.look()
            await anyio.wait_all_tasks_blocked()
            assert content(slow.received[-1])["at"] == watch.clock.now
            assert len(slow.received) <= 2
            watch.feed.close()

    play(scenario)


def test_a_page_that_is_closed_leaves_nothing():
    """The places for open pages are few."""

    async def scenario(watch: Watch) -> None:
        watch.look()
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read, watch.page)
            await anyio.wait_all_tasks_blocked()
            assert watch.page.open == 1
            reader.gone.set()
        assert watch.page.open == 0

    play(scenario)


def test_the_last_snapshot_says_that_the_process_goes():
    """All who watch see `draining`, then their streams end."""

    async def scenario(watch: Watch) -> None:
        reader = Reader()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.page.sampler.run)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(reader.read, watch.page)
            await anyio.wait_all_tasks_blocked()
            watch.service.lifecycle.ready()
            watch.service.lifecycle.drain(patient=True)
        assert content(reader.received[-1])["phase"] == "draining"
        assert watch.feed.closed

    play(scenario)


def test_a_snapshot_that_fails_takes_nothing_down(caplog: pytest.LogCaptureFixture):
    """A mistake in the page costs the page its numbers, says so once, and costs nobody a prediction."""

    async def scenario(watch: Watch) -> None:
        del watch.service.meters.request_duration
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.page.sampler.run)
            await anyio.wait_all_tasks_blocked()
            assert content(watch.feed.history())["now"] is None
            watch.service.lifecycle.drain(patient=False)

    play(scenario)
    assert caplog.text.count("no new numbers") == 1, "said once, although the last look failed too"


def test_there_is_a_limit_to_open_pages(bundle: Path):
    """Past it the answer is 503: connections are for predictions first."""
    service = Service(bundle)
    with service.client as client:
        page = client.app_state["page"]
        page.open = MAX_PAGES
        answer = client.get("/events")
        assert (answer.status_code, answer.json()["title"]) == (503, "The service is overloaded")
        assert answer.headers["Retry-After"] == "1"
    service.telemetry.shutdown()

"""One run: records leave on schedule, truths follow when due, and everything is settled or written down at the end."""

import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus

from streamsim.answers import Answer, Cause
from streamsim.arrivals import Schedule, next_burst, offsets, rate_at
from streamsim.asking import Asker
from streamsim.books import Books
from streamsim.calls import CallTracing
from streamsim.client import Client, open_client
from streamsim.clocks import Clocks
from streamsim.feedback import FeedbackScheduler
from streamsim.journal import open_journal
from streamsim.owed import Owed
from streamsim.record import open_record
from streamsim.rows import Record, Rows
from streamsim.scrapes import Scrape, Source
from streamsim.summary import Now, Progress, Summary
from streamsim.tally import TIMED, Tally
from streamsim.telemetry import profiles, spans

MAX_IN_FLIGHT: Final = 10_000
CLOSED: Final = "the run ends as with Ctrl-C, and `stream --resume` sends what is still owed"
LAST_ANSWERS_S: Final = 2.0
"""How long Ctrl-C waits for what is in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to do. Times are real seconds: the speed is already divided out. Without rows it only resumes."""

    url: str
    schedule: Schedule
    journal: Path
    rows: Rows | None
    first_lap: int = 0
    feedback_delay: float = 300.0
    give_up_after: float = 3600.0
    """From when a truth was due; a service that keeps its predictions as long as this has forgotten it then."""
    grace: float = 30.0
    timeout: float = 10.0
    """From a record's first try to the end of its last."""
    retry: bool = True
    """Predictions that fail in passing are tried again. What judges the service does not: it counts every failure."""
    resume: bool = False
    record: Path | None = None
    max_in_flight: int | None = None
    """Arrivals beyond so many are not sent; None stands for `MAX_IN_FLIGHT`."""
    scrape: Scrape | None = None
    """Where Prometheus may look; None: nowhere."""
    token: str | None = field(default=None, repr=False)
    """What the service asks its callers for."""


class Screen(Protocol):
    """Shows a run while it goes on."""

    async def watch(self, progress: Callable[[], Progress]) -> None:
        """Show the progress again and again until cancelled; return where the output was closed."""


async def run(
    plan: Plan,
    screen: Screen,
    clocks: Clocks = Clocks(),  # noqa: B008  immutable
    tally: Tally | None = None,
    tracing: CallTracing | None = None,
) -> Summary:
    """Do one run, until all is settled, nothing more can be delivered, or SIGINT or SIGTERM ends it.

    A caller that wants the whole distributions or a timeline hands in a fresh `tally` of its own. Without `tracing`
    no spans are made.

    Raises:
        JournalError: the journal is locked or not usable.
        OutputError: the record cannot be written.
    """
    with open_journal(plan.journal, clocks) as journal, open_record(plan.record, append=plan.resume) as recorder:
        if journal.note:
            print(f"streamsim: {journal.note}", file=sys.stderr)
        async with open_client(plan.url, plan.timeout, tracing, plan.token) as client:
            books = Books(journal, recorder, tally or Tally())
            this = Run(plan, client, books, clocks)
            async with _scraped(plan.scrape, books.tally, this.now), anyio.create_task_group() as group:
                await group.start(_watch_signals, this)
                group.start_soon(_watched, screen, this)
                await this.until_settled(group)
                group.cancel_scope.cancel()
            return this.summary()


def launch(plan: Plan, screen: Screen, tally: Tally | None = None) -> Summary:
    """Do one run on an event loop of its own, with the spans and profiles that the environment asks for; see `run`.

    Raises:
        SettingError: a variable of the environment holds what cannot be used; also what `run` raises.
    """
    with profiles(os.environ), spans(os.environ) as tracing:
        return anyio.run(run, plan, screen, Clocks(), tally, tracing, backend_options={"use_uvloop": True})


@asynccontextmanager
async def _scraped(scrape: Scrape | None, tally: Tally, source: Source) -> AsyncIterator[None]:
    """Show a run's metrics while it lasts; where they cannot be shown, say so, and let it go on without."""
    if scrape is None:
        yield
        return
    from streamsim.metrics import serving  # noqa: PLC0415 - a server and Prometheus's client, 3 MiB

    async with serving(scrape, tally, source):
        yield


async def _watched(screen: Screen, this: "Run") -> None:
    await screen.watch(this.progress)
    print(f"streamsim: stdout was closed: {CLOSED}", file=sys.stderr)
    this.interrupt()


async def _watch_signals(this: "Run", *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            this.interrupt()


class Run:
    """The state of one run. `run` builds it and owns its tasks."""

    def __init__(self, plan: Plan, client: Client, books: Books, clocks: Clocks) -> None:
        self.plan = plan
        self._client = client
        self._journal, self._recorder, self._tally = books
        self._clocks = clocks
        self._asker = Asker(client, books.tally, clocks, plan.timeout, again=plan.retry)
        self._feedback = FeedbackScheduler(client, books, clocks, plan.give_up_after)
        self._max_in_flight = plan.max_in_flight or MAX_IN_FLIGHT
        self._earlier = 0
        self._started_at = clocks.wall()
        self._start = clocks.monotonic()
        self._interrupted = False
        self._arriving, self._flying, self._draining = (anyio.CancelScope() for _ in range(3))

    async def until_settled(self, group: TaskGroup) -> None:
        """Take over what is owed, send every record, and wait until the truths are delivered."""
        if self.plan.resume:
            for owed in self._journal:
                self._feedback.resume(owed)
                self._tally.resumed += 1
        else:
            self._earlier = len(self._journal)
        group.start_soon(self._feedback.run, group)
        if self.plan.rows is not None:
            await self._stream(self.plan.rows)
        with self._draining:
            await self._feedback.drain(self.plan.grace)

    def interrupt(self) -> None:
        """End the run early: no new arrivals, a moment for the answers in flight, none for truths. Twice: at once."""
        self._arriving.cancel()
        self._draining.cancel()
        self._flying.deadline = -math.inf if self._interrupted else anyio.current_time() + LAST_ANSWERS_S
        self._interrupted = True

    def progress(self) -> Progress:
        """Freeze the state for a display."""
        elapsed = self._clocks.monotonic() - self._start
        streaming = self.plan.rows is not None
        return Progress(
            elapsed=elapsed,
            planned_rate=self._planned_rate(elapsed),
            next_burst=next_burst(self.plan.schedule, elapsed) if streaming else None,
            totals=self._tally.totals(self._client.resent),
            timings=self._tally.timings(),
        )

    def now(self) -> Now:
        """Freeze the state for a scrape."""
        return Now(
            planned_rate=self._planned_rate(self._clocks.monotonic() - self._start),
            totals=self._tally.totals(self._client.resent),
            deliveries=self._feedback.deliveries(),
            resent_to=self._client.resent_to,
        )

    def summary(self) -> Summary:
        """Freeze the outcome, and look into the journal for what it really holds."""
        return Summary(
            started_at=self._started_at,
            elapsed=self._clocks.monotonic() - self._start,
            interrupted=self._interrupted,
            earlier=self._earlier,
            held=len(self._journal) - self._earlier,
            totals=self._tally.totals(self._client.resent),
            timings=self._tally.timings(),
        )

    def _planned_rate(self, elapsed: float) -> float:
        return 0.0 if self.plan.rows is None else rate_at(self.plan.schedule, elapsed)

    async def _stream(self, rows: Rows) -> None:
        with self._flying:
            async with anyio.create_task_group() as flights:  # left when every request is answered
                with self._arriving:
                    self._start = self._clocks.monotonic()
                    for number, offset in enumerate(offsets(self.plan.schedule)):
                        await self._sleep_until(self._start + offset)
                        self._arrive(flights, rows.record(number, self.plan.first_lap), self._start + offset)
        self._tally.interrupted, self._tally.in_flight = self._tally.in_flight, 0

    async def _sleep_until(self, at: float) -> None:
        """Wait for a planned time; when it has passed, only let the others run, and send at once."""
        await anyio.sleep(max(0.0, at - self._clocks.monotonic()))
        while (left := at - self._clocks.monotonic()) > 0:  # noqa: ASYNC110  timers may be a millisecond early
            await anyio.sleep(left)

    def _arrive(self, flights: TaskGroup, record: Record, planned: float) -> None:
        self._tally.planned += 1
        sent = self._tally.in_flight < self._max_in_flight
        self._tally.in_flight += sent
        if timeline := self._tally.timeline:
            timeline.planned(planned - self._start, self._tally.in_flight, sent=sent)
        if not sent:
            self._tally.causes[Cause.NOT_SENT] += 1
            return
        now = self._journal.now()
        row = self._journal.intend(record.id_json, record.truth, now, now + self.plan.feedback_delay)
        flights.start_soon(self._predict, record, row, planned)

    async def _predict(self, record: Record, row: int, planned: float) -> None:
        sent = self._clocks.monotonic()
        self._tally.late(sent - planned)
        if timeline := self._tally.timeline:
            timeline.sent(sent - self._start)
        answer = await self._asker.ask(record)
        # Not in a `finally`: what is cut off here stays in flight, and `_stream` counts it as interrupted.
        self._tally.in_flight -= 1
        self._tally.causes[answer.cause] += 1
        latency = None
        if answer.cause in TIMED:
            now = self._clocks.monotonic()
            latency = now - planned
            self._tally.took(latency, now - sent, answer)
        if timeline:
            timeline.answered(planned - self._start, latency, ok=answer.cause is Cause.OK)
        if answer.cause is Cause.OK:
            self._acknowledge(record, row, answer)
        else:
            self._journal.forget(row)

    def _acknowledge(self, record: Record, row: int, answer: Answer) -> None:
        assert answer.document is not None  # noqa: S101  Cause.OK says so
        predicted, at = float(answer.document["Calories"]), self._journal.now()
        due = at + self.plan.feedback_delay
        self._journal.acknowledge(row, predicted, at, due, answer.trace.reference if answer.trace else None)
        self._feedback.owe(row, self.plan.feedback_delay)
        self._recorder.prediction(Owed(row, record.id_json, record.truth, predicted, at, due, 0))

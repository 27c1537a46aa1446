"""Sends each truth when it is due: heaps of packed integers, one task that waits for the next of them.

One heap is of truths that were never sent, one of those to be tried again. They hold (due time, journal row) in one
integer; id and truth are read back from the journal when their time has come. So 144,000 owed truths, two hours at 20 a
second, cost about 6 MiB of memory.
"""

import heapq
import math
import random
from typing import Final

import anyio
from anyio.abc import TaskGroup

from streamsim.answers import Answer, Cause
from streamsim.books import Books
from streamsim.client import Client
from streamsim.clocks import Clocks
from streamsim.owed import Owed
from streamsim.retries import retry_delay
from streamsim.tally import Deliveries

MAX_DELIVERIES: Final = 64
ROW_BITS: Final = 32
DEFINITIVE: Final = {404: "unknown", 409: "conflict", 422: "rejected"}
STOOD_STILL_S: Final = 1.0
"""So much later than planned nobody wakes who was not stopped."""
NO_SUCH_PATH: Final = ":not-found"
"""How the problem type of the service's other 404 ends."""
GIVEN_UP: Final = "given_up"


class DueHeap:
    """Rows ordered by when they are due. Times are whole milliseconds from 0 on; no clock in here."""

    def __init__(self) -> None:
        self._heap: list[int] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, due_ms: int, row: int) -> None:
        """Add a row; the same row may be added again once it has been popped.

        Raises:
            ValueError: a time or row that cannot be packed.
        """
        if due_ms < 0 or not 0 <= row < 1 << ROW_BITS:
            raise ValueError(f"cannot pack due_ms={due_ms}, row={row}")
        heapq.heappush(self._heap, due_ms << ROW_BITS | row)

    def pop_due(self, now_ms: int) -> int | None:
        """Take out the row that is due first, if its time has come."""
        if not self._heap or self._heap[0] >> ROW_BITS > now_ms:
            return None
        return heapq.heappop(self._heap) & ((1 << ROW_BITS) - 1)

    def next_due_ms(self) -> int | None:
        """When the first row is due."""
        return self._heap[0] >> ROW_BITS if self._heap else None

    def due(self, now_ms: int) -> int:
        """Count the rows whose time has come; usually none, and then it costs nothing."""
        limit = (now_ms + 1) << ROW_BITS
        if not self._heap or self._heap[0] >= limit:
            return 0
        return len([each for each in self._heap if each < limit])


def definitive(answer: Answer) -> str | None:
    """Return the status that settles a truth for good, or None when it has to be sent again.

    404 is about the id only where the service says so: not where a proxy knows no such route, or `--url` is wrong.
    """
    if answer.cause is Cause.OK and answer.document is not None:
        return str(answer.document["status"])
    if answer.status == 404 and (answer.document is None or str(answer.document.get("type")).endswith(NO_SUCH_PATH)):
        return None
    return DEFINITIVE.get(answer.status)


class FeedbackScheduler:
    """Owns the heaps and the deliveries. A truth is given up when it fails `give_up_after` seconds after it was due."""

    def __init__(self, client: Client, books: Books, clocks: Clocks, give_up_after: float) -> None:
        self._client = client
        self._journal, self._recorder, self._tally = books
        self._clocks = clocks
        self._give_up_after = give_up_after
        self._origin = self._clocks.monotonic()
        self._first, self._again = DueHeap(), DueHeap()
        self._delivering = 0
        self._random = random.Random()  # noqa: S311  jitter
        self._earlier = anyio.Event()
        self._settled = anyio.Event()
        self._patience_from = self._origin
        self._slots = anyio.Semaphore(MAX_DELIVERIES)

    def owe(self, row: int, delay: float) -> None:
        """Take on the truth of a journal row, due in `delay` seconds."""
        self._patience_from = max(self._patience_from, self._clocks.monotonic() + delay)
        self._push(self._first, row, delay)

    def resume(self, owed: Owed) -> None:
        """Take on what an earlier run left, due when that run had planned it."""
        self.owe(owed.row, max(0.0, owed.due - self._journal.now()))

    async def run(self, group: TaskGroup) -> None:
        """Deliver for ever; deliveries run in `group`, at most 64 at once."""
        while True:
            row = self._next().pop_due(self._now_ms())
            if row is None:
                await self._wait()
                continue
            self._delivering += 1
            await self._slots.acquire()
            group.start_soon(self._deliver, row)

    async def drain(self, grace: float) -> None:
        """Return when nothing is owed any more, or when nothing could be delivered for `grace` seconds.

        The patience starts at the last due time and starts again with each delivery, so that a long backlog has time.
        If this process has stood still meanwhile, it starts anew: nothing could have been delivered.
        """
        while self._owing():
            left = self._patience_from + grace - self._clocks.monotonic()
            if left <= 0:
                return
            self._settled = anyio.Event()
            until = self._clocks.monotonic() + left
            with anyio.move_on_after(left):
                await self._settled.wait()
            if self._clocks.monotonic() - until > STOOD_STILL_S:
                self._patience_from = self._clocks.monotonic()

    def deliveries(self) -> Deliveries:
        """Count what is due."""
        due = self._first.due(self._now_ms()) + len(self._again) + self._delivering
        return Deliveries(due, MAX_DELIVERIES - self._slots.value)

    def _owing(self) -> bool:
        return bool(self._first or self._again or self._delivering)

    def _next(self) -> DueHeap:
        """Return the heap whose first row is due before the other's."""
        first, again = self._first.next_due_ms(), self._again.next_due_ms()
        return self._first if again is None or (first is not None and first <= again) else self._again

    def _now_ms(self) -> int:
        return int((self._clocks.monotonic() - self._origin) * 1000)

    def _push(self, heap: DueHeap, row: int, delay: float) -> None:
        # Rounded up: a truth is never sent before its time.
        due_ms = math.ceil((self._clocks.monotonic() - self._origin + delay) * 1000)
        first = self._next().next_due_ms()
        heap.push(due_ms, row)
        if first is None or due_ms < first:
            self._earlier.set()

    async def _wait(self) -> None:
        """Sleep until the first row is due, or until one comes that is due earlier."""
        self._earlier = anyio.Event()
        due_ms = self._next().next_due_ms()
        deadline = math.inf
        if due_ms is not None:
            left = due_ms / 1000 - (self._clocks.monotonic() - self._origin)
            # uvloop's clock ticks in milliseconds: a deadline between two ticks is polled for, at full speed.
            deadline = math.ceil((anyio.current_time() + left) * 1000) / 1000
        with anyio.CancelScope(deadline=deadline):
            await self._earlier.wait()

    async def _deliver(self, row: int) -> None:
        try:
            owed = self._journal.get(row)
            sent = self._clocks.monotonic()
            answer = await self._client.feedback(owed.id_json, owed.truth, owed.span)
            self._tally.feedback_took(self._clocks.monotonic() - sent, answer)
            if status := definitive(answer):
                self._settle(owed, status)
                self._tally.delivered[status] += 1
                self._patience_from = max(self._patience_from, self._clocks.monotonic())
            elif (left := owed.due + self._give_up_after - self._journal.now()) > 0:
                self._retry(owed, answer, left)
            else:
                self._settle(owed, GIVEN_UP)
                self._tally.given_up[answer.cause] += 1
        finally:
            self._slots.release()
            self._delivering -= 1
        if not self._owing():
            self._settled.set()

    def _settle(self, owed: Owed, status: str) -> None:
        # In this order a process killed in between has recorded the answer twice rather than never.
        self._recorder.feedback(owed, status, self._journal.now())
        self._journal.forget(owed.row)

    def _retry(self, owed: Owed, answer: Answer, left: float) -> None:
        """Plan another try; the last one is made at the moment at which the truth would be given up."""
        self._tally.retries[answer.cause] += 1
        self._journal.count_attempt(owed.row)
        delay = retry_delay(owed.attempts + 1, answer.retry_after, self._random.random())
        self._push(self._again, owed.row, min(delay, left))

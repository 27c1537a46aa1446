"""Asks for predictions, and again where a try failed in passing: within a deadline, and never faster than it backs off.

Both calls are idempotent by id, so a try whose answer was lost may be followed by another.
"""

import random
from typing import Final

import anyio

from streamsim.answers import Answer, Cause
from streamsim.client import Client
from streamsim.clocks import Clocks
from streamsim.retries import is_passing, pause_within, retry_delay
from streamsim.rows import Record
from streamsim.tally import Tally

TRY_SHARE: Final = 1 / 3
"""Of the deadline, for one try: a replica that hangs leaves time for another one, behind the same address."""
LAST_SHARE: Final = 1 / 10
"""Of the deadline, that the last try begins before its end."""
MAX_WAITING: Final = 500
"""Records between two tries. More of them would be a load of their own, and make the others late."""


class Asker:
    """Asks for the predictions of one run, and counts what it asks for again."""

    def __init__(self, client: Client, tally: Tally, clocks: Clocks, timeout: float, *, again: bool) -> None:
        self._client = client
        self._tally = tally
        self._clocks = clocks
        self._timeout = timeout
        self._again = again
        self._waiting = 0
        self._random = random.Random()  # noqa: S311  jitter

    async def ask(self, record: Record) -> Answer:
        """Return the answer that stands, or the last one within the timeout.

        Time in which this process stood still (SIGSTOP, a busy machine) is not the record's: it does not count.
        """
        left, most = self._timeout, self._timeout * (TRY_SHARE if self._again else 1)
        before: Answer | None = None
        tries = 0
        while True:
            tries += 1
            patience, began = min(left, most), self._clocks.monotonic()
            answer = await self._client.predict(record, patience)
            left -= min(self._clocks.monotonic() - began, patience)
            if before is not None and answer.cause is Cause.NOT_SENT:
                return before  # the record did leave once
            pause = self._pause(tries, answer, left)
            if pause is None:
                return answer
            self._tally.prediction_retries[answer.cause] += 1
            self._waiting += 1
            try:
                await anyio.sleep(pause)
            finally:
                self._waiting -= 1
            left, before = left - pause, answer

    def _pause(self, tries: int, answer: Answer, left: float) -> float | None:
        if not self._again or self._waiting >= MAX_WAITING or not is_passing(answer):
            return None
        delay = retry_delay(tries, answer.retry_after, self._random.random())
        return pause_within(left, self._timeout * LAST_SHARE, delay, answer.retry_after)

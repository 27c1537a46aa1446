"""A store in this process's memory with a journal, so that the next process knows what this one knew."""

from collections.abc import Callable, Iterable
from typing import Final

import anyio
from anyio import to_thread

from calsvc.feedback.facts import Beside, Claim, Fact, Prediction
from calsvc.feedback.journal import Journal
from calsvc.feedback.ledger import Ledger
from calsvc.feedback.records import Joined, RecordId, Remembered, Shadow
from calsvc.feedback.store import Late
from calsvc.feedback.writer import Writer
from calsvc.http.errors import StoreError
from observability.events import tell
from observability.signals import STORE_LOST, STORE_RESTORED
from sqlitefile import FileError, InUse

LOCK_INTERVAL: Final = 0.1
LOCK_PATIENCE: Final = 10.0
"""Seconds to wait for another process to let go of the file: one that is being replaced needs a moment to leave."""


class DurableStore:
    """A `JoinStore` in memory, with a journal.

    Args:
        ledger: where everything is.
        journal: what is kept of it.
        retention: seconds that it means something.
    """

    def __init__(self, ledger: Ledger, journal: Journal, retention: float) -> None:
        self.statistics = ledger.statistics
        self.sweep = ledger.sweep
        self._ledger = ledger
        self._journal = journal
        self._retention = retention
        self._writer = Writer(journal, lambda: facts_of(ledger))

    @property
    def degraded(self) -> bool:
        """See `JoinStore.degraded`."""
        return self._writer.degraded

    async def open(self, now: float) -> Iterable[Remembered]:
        """See `JoinStore.open`."""
        try:
            await self._opened()
            await to_thread.run_sync(self._replay, now)
        except FileError as error:
            raise StoreError(
                f"CALSVC_STORE: {self._journal.path} {error}; name another file, or memory:// for none"
            ) from None
        waiting = [prediction for _, prediction in self._ledger.waiting()]
        if waiting:
            tell(STORE_RESTORED, {"file": str(self._journal.path), "waiting": len(waiting)})
        return waiting

    async def _opened(self) -> None:
        until = anyio.current_time() + LOCK_PATIENCE
        while True:
            try:
                return await to_thread.run_sync(self._journal.open)
            except InUse:
                if anyio.current_time() >= until:
                    raise
                await anyio.sleep(LOCK_INTERVAL)

    def _replay(self, now: float) -> None:
        replay(self._journal.facts(), self._ledger, now - self._retention)

    async def run(self, late: Callable[[Late], None]) -> None:  # noqa: ARG002 - every join is answered
        """See `JoinStore.run`."""
        await self._writer.run()

    async def aclose(self) -> None:
        """See `JoinStore.aclose`."""
        if not await self._writer.aclose():
            tell(STORE_LOST, {"predictions": len(self._ledger.waiting())})

    async def remember(self, record_id: RecordId, prediction: Remembered) -> float | None:
        """See `JoinStore.remember`."""
        replaced_at = self._ledger.remember(record_id, prediction)
        self._writer.add(Prediction.of(record_id, prediction))
        return replaced_at

    async def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """See `JoinStore.attach`."""
        if attached := self._ledger.attach(record_id, made_at, shadow):
            self._writer.add(Beside(record_id, shadow.kcal, shadow.series))
        return attached

    async def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """See `JoinStore.join`."""
        joined = self._ledger.join(record_id, true_kcal, now)
        if joined.prediction is not None:
            self._writer.add(Claim(record_id, true_kcal, now))
        return joined


def facts_of(ledger: Ledger) -> list[Fact]:
    """Return all that a ledger knows: what another one needs to know it again."""
    waiting = ledger.waiting()
    shadows = [(record_id, each.shadow) for record_id, each in waiting if each.shadow is not None]
    return [
        *(Claim(record_id, true_kcal, came_at) for record_id, true_kcal, came_at in ledger.settled()),
        *(Prediction.of(record_id, prediction) for record_id, prediction in waiting),
        *(Beside(record_id, shadow.kcal, shadow.series) for record_id, shadow in shadows),
    ]


def replay(facts: Iterable[Fact], ledger: Ledger, horizon: float) -> None:
    """Tell a ledger what another one has learnt; what happened before the `horizon` is past its retention."""
    for fact in facts:
        if isinstance(fact, Prediction):
            if fact.made_at >= horizon:
                ledger.remember(fact.id, fact.remembered)
        elif isinstance(fact, Beside):
            ledger.shadow(fact.id, Shadow(fact.kcal, fact.series))
        elif fact.came_at >= horizon:
            ledger.settle(fact.id, fact.true_kcal, fact.came_at)

"""A store in this process's memory that keeps a journal, so that the next process knows what this one knew.

The journal is behind by `WRITE_INTERVAL` or so, and never in anybody's way: requests only note what is to be written,
a thread writes what was noted meanwhile. Where the disk refuses, they go on, and the journal catches up later.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from calsvc.feedback.entries import Note, Truth, notes_of
from calsvc.feedback.journal import Damaged, InUse, JournalError
from calsvc.feedback.keeper import Keeper, Keeping
from calsvc.feedback.ledger import Ledger
from calsvc.feedback.records import Joined, RecordId, Remembered, Shadow
from calsvc.feedback.store import LateJoin
from calsvc.http.errors import StoreError
from observability.events import tell
from observability.signals import STORE_BACK, STORE_DAMAGED, STORE_DEGRADED, STORE_LOST, STORE_RESTORED

WRITE_INTERVAL: Final = 0.025
"""Seconds that a note waits for others to be written with: about what a killed process loses."""
LOCK_INTERVAL: Final = 0.1
LOCK_PATIENCE: Final = 10.0
"""Seconds to wait for another process to let go of the file: one that is being replaced needs a moment to leave."""
RETRY_INTERVAL: Final = 0.5
"""Seconds until a disk that has refused is tried again."""
MOST_NOTES: Final = 200_000
"""Notes that wait for a disk at most; past it, all that is known is written once it is back."""


class DurableStore:
    """A `JoinStore` in memory, with a journal.

    Args:
        ledger: where everything is.
        keeping: what is kept of it.
    """

    def __init__(self, ledger: Ledger, keeping: Keeping) -> None:
        self.degraded = False
        self.statistics = ledger.statistics
        self.sweep = ledger.sweep
        self._ledger = ledger
        self._keeping = keeping
        self._keeper = Keeper(keeping)
        self._notes: list[Note] = []
        self._noted = anyio.Event()
        self._incomplete = False
        """Whether the journal lacks more than the notes that wait."""

    async def open(self, now: float) -> Iterable[Remembered]:  # noqa: ARG002 - the keeper has its own
        """See `JoinStore.open`. What is damaged is put aside, and what could be read of it is kept."""
        try:
            aside = await self._restored()
        except JournalError as error:
            raise StoreError(
                f"CALSVC_STORE: {self._keeping.path} {error}; name another file, or memory:// for none"
            ) from None
        waiting = [prediction for _, prediction in self._ledger.waiting()]
        if aside is not None:
            tell(STORE_DAMAGED, {"file": str(self._keeping.path), "aside": aside.name, "waiting": len(waiting)})
            self._incomplete = True
            self._noted.set()
        elif waiting:
            tell(STORE_RESTORED, {"file": str(self._keeping.path), "waiting": len(waiting)})
        return waiting

    async def _restored(self) -> Path | None:
        """Have the ledger told what the journal says; see `Keeper.restore`."""
        until = anyio.current_time() + LOCK_PATIENCE
        while True:
            try:
                return await to_thread.run_sync(self._keeper.restore, self._ledger)
            except InUse:
                if anyio.current_time() >= until:
                    raise
                await anyio.sleep(LOCK_INTERVAL)

    async def run(self, late: Callable[[LateJoin], None]) -> None:  # noqa: ARG002 - every join is answered
        """Write what was noted, soon and together."""
        while True:
            await self._noted.wait()
            await anyio.sleep(RETRY_INTERVAL if self.degraded else WRITE_INTERVAL)
            await self._write()

    async def aclose(self) -> None:
        """Write what is left, and close the file."""
        if self._notes or self._incomplete:
            await self._write()
        if self._notes or self._incomplete:
            tell(STORE_LOST, {"predictions": len(self._ledger.waiting())})
        await to_thread.run_sync(self._keeper.close)

    async def remember(self, record_id: RecordId, prediction: Remembered) -> None:
        """See `JoinStore.remember`."""
        self._ledger.remember(record_id, prediction)
        self._note((record_id, prediction))

    async def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """See `JoinStore.attach`."""
        if attached := self._ledger.attach(record_id, made_at, shadow):
            self._note((record_id, shadow))
        return attached

    async def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """See `JoinStore.join`."""
        joined = self._ledger.join(record_id, true_kcal, now)
        if joined.prediction is not None:
            self._note((record_id, Truth(true_kcal, now)))
        return joined

    def _note(self, note: Note) -> None:
        if not self._notes:
            self._noted.set()
        self._notes.append(note)

    async def _write(self) -> None:
        """Write the notes, or all that is known where the journal lacks more than them."""
        notes, self._notes, self._noted = self._notes, [], anyio.Event()
        try:
            if self._incomplete:
                await self._in_thread([])  # is there room at all? Gathering everything takes a while
                notes, self._notes = notes_of(self._ledger), []
            await self._in_thread(notes)
        except JournalError as error:
            self._keep(notes, error)
        else:
            self._incomplete = False
            if self.degraded:
                self.degraded = False
                tell(STORE_BACK, {"store": str(self._keeping.path)})

    async def _in_thread(self, notes: list[Note]) -> None:
        with anyio.CancelScope(shield=True):  # what is half written is written to its end
            await to_thread.run_sync(self._keeper.write, notes)

    def _keep(self, notes: list[Note], error: JournalError) -> None:
        """Keep what could not be written for the next time, or know that it has to be everything."""
        if isinstance(error, Damaged) or self._incomplete or len(notes) + len(self._notes) > MOST_NOTES:
            self._incomplete = True
            self._notes.clear()
        else:
            self._notes[:0] = notes
        self._noted.set()
        if not self.degraded:
            self.degraded = True
            tell(STORE_DEGRADED, {"store": str(self._keeping.path), "error.message": str(error)})

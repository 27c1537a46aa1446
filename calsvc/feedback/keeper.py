"""Keeps the journal of one ledger: reads, mends, writes and trims it. Blocks; knows no event loop."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from calsvc.feedback.entries import Note, entries_of, replay
from calsvc.feedback.journal import Damaged, Journal, Moment, open_journal, salvage
from calsvc.feedback.ledger import Ledger

TRIM_INTERVAL: Final = 5.0
ENTRIES_PER_PREDICTION: Final = 4
"""Entries kept for each prediction that may wait: made, shadowed, settled, and one that was replaced."""
ENTRIES_PER_BATCH: Final = 10_000


class Keeping(NamedTuple):
    """What is kept, where and how long.

    Args:
        path: of the journal.
        retention: seconds that an entry means something.
        most: predictions that may wait.
        now: both clocks; the monotonic one is that of the ledger's times.
    """

    path: Path
    retention: float
    most: int
    now: Callable[[], Moment]


class Keeper:
    """One journal and what is to be done with it. Every method may raise `JournalError`."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping
        self._journal: Journal | None = None
        self._trimmed_at = keeping.now().monotonic

    def restore(self, ledger: Ledger) -> Path | None:
        """Open the journal and tell a ledger what it says.

        A damaged one is put aside, and its new name returned; the ledger is told what could be read of it. What it
        knows then has to be written anew.
        """
        now = self._keeping.now()
        horizon = now.monotonic - self._keeping.retention
        try:
            self._journal = open_journal(self._keeping.path)
            for batch in self._journal.batches(now):
                replay(batch.entries, batch.at, ledger, horizon)
        except Damaged:
            aside = self._put_aside(now)
            for batch in salvage(aside, now):  # some of it again, which makes no difference
                replay(batch.entries, batch.at, ledger, horizon)
            self._journal = open_journal(self._keeping.path)
            return aside
        return None

    def write(self, notes: Sequence[Note]) -> None:
        """Write notes, a batch in any case; where it raises, perhaps some of them.

        Raises:
            Damaged: the file was spoiled or taken away, and there is a new one: all that is known has to be written.
        """
        now = self._keeping.now()
        journal = self._of_the_place(now)
        try:
            for first in range(0, max(1, len(notes)), ENTRIES_PER_BATCH):
                journal.write(entries_of(notes[first : first + ENTRIES_PER_BATCH], now.monotonic), now)
            if now.monotonic - self._trimmed_at > TRIM_INTERVAL:
                self._trimmed_at = now.monotonic
                journal.trim(now, self._keeping.retention, ENTRIES_PER_PREDICTION * self._keeping.most)
        except Damaged:
            self._put_aside(now)
            raise

    def close(self) -> None:
        """Close the file, where one is open."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _of_the_place(self, now: Moment) -> Journal:
        """Return the journal that lies where it should; one that is new lacks all that was written before."""
        if self._journal is not None and self._journal.in_place:
            return self._journal
        self.close()
        try:
            self._journal = open_journal(self._keeping.path)
        except Damaged:
            self._put_aside(now)
            self._journal = open_journal(self._keeping.path)
        raise Damaged("was taken away")

    def _put_aside(self, now: Moment) -> Path:
        """Rename the damaged file, and what SQLite has beside it: it may hold more than we can read."""
        self.close()
        path = self._keeping.path
        stamp = datetime.fromtimestamp(now.wall, UTC).strftime("%Y%m%dT%H%M%S")
        aside = path.with_name(f"{path.name}.damaged-{stamp}")
        for suffix in ("", "-wal", "-journal"):
            if (file := path.with_name(path.name + suffix)).exists():
                file.rename(aside.with_name(aside.name + suffix))
        return aside

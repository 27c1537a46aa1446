"""A file of what a store has learnt, so that the next process knows it: batches of facts, each written in one go.

Everything here blocks, and belongs into a thread.
"""

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from calsvc.feedback.facts import Fact
from observability.events import tell
from observability.signals import STORE_DAMAGED
from sqlitefile import Damaged, FileError, OtherFormat, named_errors, open_file, put_aside, remove

FORMAT: Final = 2
TRIM_INTERVAL: Final = 5.0
TRIMMED_AT_ONCE: Final = 1000
"""Batches that are looked at in one go when old ones are removed."""
FACTS_PER_BATCH: Final = 10_000
_TABLE: Final = """
CREATE TABLE batches (
    number INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,         -- of the machine, as long as `monotonic` is comparable
    monotonic REAL NOT NULL,    -- seconds: when it was written
    wall REAL NOT NULL,         -- epoch seconds of the same moment
    facts INTEGER NOT NULL,     -- how many
    content BLOB NOT NULL       -- MessagePack; their times are seconds of the same clock as `monotonic`
) STRICT
"""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Fact]).decode


class Moment(NamedTuple):
    """A moment by both clocks. The monotonic one is common to all processes of one `boot` of the machine."""

    boot: str
    monotonic: float
    wall: float

    def seen_from(self, now: "Moment") -> float:
        """Return when this was, seconds of the monotonic clock of `now`; of another boot only the wall clock tells."""
        if self.boot == now.boot and self.monotonic <= now.monotonic:
            return self.monotonic
        return now.monotonic - max(0.0, now.wall - self.wall)


class Keep(NamedTuple):
    """What a journal keeps.

    Args:
        age: seconds that a fact means something.
        most: facts that may mean something; older ones go.
        now: both clocks; the monotonic one is that of the facts' times.
    """

    age: float
    most: int
    now: Callable[[], Moment]


class Journal:
    """The file, this process's alone while it is open. Every method may raise `FileError`.

    What cannot be read, since it is damaged or of an earlier version, is put aside and logged, and a new file begun.
    """

    def __init__(self, path: Path, keep: Keep) -> None:
        self.path = path
        self._keep = keep
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._count = 0
        self._trimmed_at = -math.inf

    def open(self) -> None:
        """Open the file, and see that all of it can be read.

        Raises:
            InUse: another process has it.
            FileError: it is another program's, or the disk does not let us. Nothing of it was touched.
        """
        try:
            self._open()
        except Damaged as damage:
            self._begin_anew("damaged", damage)
        except OtherFormat as other:
            if other.version != 1 or other.tables != ["batches"]:
                raise
            self._begin_anew("format-1", other)

    def facts(self) -> Iterator[Fact]:
        """Yield all, the oldest first, their times by this process's clock."""
        now = self._keep.now()
        with named_errors():
            for *written, content in self._execute(
                "SELECT boot, monotonic, wall, content FROM batches ORDER BY number"
            ):
                moment = Moment(*written)
                ahead = moment.seen_from(now) - moment.monotonic
                yield from (fact.later(ahead) if ahead else fact for fact in _decode(content))

    def append(self, facts: Sequence[Fact]) -> None:
        """Write facts: from here on they are there, whatever happens to this process.

        Raises:
            Damaged: the file was spoiled or taken away, and there is a new one: everything has to be written.
        """
        with self._transaction():
            self._insert(facts)
        self._count += len(facts)
        if (now := self._keep.now().monotonic) - self._trimmed_at > TRIM_INTERVAL:
            self._trimmed_at = now
            self._trim()

    def replace(self, facts: Sequence[Fact]) -> None:
        """Have these facts in the file and no others; it raises as `append` does, and all is as it was."""
        with self._transaction():
            self._execute("DELETE FROM batches")
            self._insert(facts)
        self._count = len(facts)

    def probe(self) -> None:
        """Raise what `append` would: a full disk, say."""
        self.append(())

    def remove(self) -> None:
        """Delete the file. First of all: who waits for it must not find it."""
        remove(self.path)
        self.close()

    def close(self) -> None:
        """Close the file, where it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> None:
        self._connection = open_file(self.path, FORMAT, {0: (_TABLE,)})
        try:
            with named_errors():
                self._inode = self.path.stat().st_ino
                batches = self._execute("SELECT number, content FROM batches")
                self._count = sum(len(_read(number, content)) for number, content in batches)
        except BaseException:
            self.close()
            raise

    def _begin_anew(self, name: str, error: FileError) -> None:
        self.close()
        aside = put_aside(self.path, name)
        tell(STORE_DAMAGED, {"file": str(self.path), "error.message": str(error), "aside": aside.name})
        self._open()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._in_place:
            self.close()
            self.open()
            raise Damaged("was taken away")
        try:
            self._execute("BEGIN")
            try:
                yield
            except BaseException:
                with suppress(FileError):  # a full disk has done it already
                    self._execute("ROLLBACK")
                raise
            self._execute("COMMIT")
        except Damaged as damage:
            self._begin_anew("damaged", damage)
            raise

    @property
    def _in_place(self) -> bool:
        """Whether the file is where it was opened: one that was deleted goes on taking what nobody will find."""
        with suppress(OSError):
            return self._connection is not None and self.path.stat().st_ino == self._inode
        return False

    def _insert(self, facts: Sequence[Fact]) -> None:
        """Insert a batch in any case."""
        statement = "INSERT INTO batches (boot, monotonic, wall, facts, content) VALUES (?, ?, ?, ?, ?)"
        for first in range(0, max(1, len(facts)), FACTS_PER_BATCH):
            some = facts[first : first + FACTS_PER_BATCH]
            self._execute(statement, *self._keep.now(), len(some), _encode(some))

    def _trim(self) -> None:
        """Remove old batches, some at a time: of facts past their age, and of those beyond the most."""
        now = self._keep.now()
        last = None
        query = "SELECT boot, monotonic, wall, number, facts FROM batches ORDER BY number LIMIT ?"
        for *written, number, count in self._execute(query, TRIMMED_AT_ONCE).fetchall():
            past = now.monotonic - Moment(*written).seen_from(now) > self._keep.age
            if not past and self._count - count < self._keep.most:
                break
            last, self._count = number, self._count - count
        if last is not None:
            self._execute("DELETE FROM batches WHERE number <= ?", last)

    def _execute(self, statement: str, *values: float | str | bytes) -> sqlite3.Cursor:
        assert self._connection is not None  # noqa: S101 - it is open
        with named_errors():
            return self._connection.execute(statement, values)


def _read(number: int, content: bytes) -> list[Fact]:
    try:
        return _decode(content)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Damaged(f"batch {number}: {error}") from None

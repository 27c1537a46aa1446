"""The truths that are still owed, on disk, so that neither Ctrl-C nor kill -9 loses one.

A row is written before its prediction is asked for, completed when the prediction is acknowledged, and removed when
the request failed or the service has definitively answered the truth. A process killed in between leaves rows: what
was acknowledged, and what was still in flight and may have been (the service answers those as unknown if it was not).

SQLite in WAL mode without fsync: the pages of a killed process stay with the operating system. A power failure may
lose the last seconds.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlitefile import (
    Damaged,
    FileError,
    InUse,
    NotADatabase,
    NotWritable,
    OtherFormat,
    named,
    named_errors,
    open_file,
    put_aside,
)
from streamsim.clocks import Calendar, Clocks
from streamsim.errors import JournalError, JournalLocked
from streamsim.owed import FORMAT, STEPS, Owed

COMPACT_EVERY: Final = 256
"""Removed rows; some six pages of them."""
COMPACT_PAGES: Final = 32
"""Given back at once at most: half a millisecond's work."""
SPARE_PAGES: Final = 256
"""Kept for what comes next, so that a journal whose rows come and go is not cut and grown again all the time."""
_INCREMENTAL: Final = 2


class Journal:
    """The open journal. Use `open_journal`. Every method raises `JournalError` when the disk fails."""

    def __init__(self, connection: sqlite3.Connection, path: Path, calendar: Calendar, note: str) -> None:
        self._connection = connection
        self._path = path
        self._forgotten = 0
        self.now = calendar.now
        """Epoch seconds by which all times in here are counted. No step of the wall clock moves them."""
        self.note = note
        """What the person who owes these truths has to know about the file."""

    def intend(self, id_json: str, truth: float, at: float, due: float) -> int:
        """Write down a truth whose prediction is about to be asked for; returns its row number."""
        row = self._execute("INSERT INTO owed (id_json, truth, at, due) VALUES (?, ?, ?, ?)", id_json, truth, at, due)
        return int(row.lastrowid or 0)

    def acknowledge(self, row: int, predicted: float, at: float, due: float, span: str | None = None) -> None:
        """Complete a row: from now on its truth is owed."""
        statement = "UPDATE owed SET predicted = ?, at = ?, due = ?, span = ? WHERE row = ?"
        self._execute(statement, predicted, at, due, span, row)

    def forget(self, row: int) -> None:
        """Remove a row: the request failed, or the service has definitively answered its truth."""
        self._execute("DELETE FROM owed WHERE row = ?", row)
        self._forgotten += 1
        if self._forgotten % COMPACT_EVERY == 0:
            self._give_back()

    def count_attempt(self, row: int) -> None:
        """Note a delivery that has to be tried again."""
        self._execute("UPDATE owed SET attempts = attempts + 1 WHERE row = ?", row)

    def get(self, row: int) -> Owed:
        """Read one row."""
        values = self._execute("SELECT * FROM owed WHERE row = ?", row).fetchone()
        if values is None:
            raise JournalError(f"{self._path}: the journal of owed truths has lost row {row}")
        return Owed(*values)

    def __iter__(self) -> Iterator[Owed]:
        """All rows, the first due first."""
        return (Owed(*values) for values in self._execute("SELECT * FROM owed ORDER BY due"))

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM owed").fetchone()[0])

    def _give_back(self) -> None:
        """Shrink the file by some of its free pages: little work, as the schedule waits meanwhile."""
        with suppress(sqlite3.Error):  # only space is at stake
            if self._connection.execute("PRAGMA freelist_count").fetchone()[0] > SPARE_PAGES:
                # As a script: `execute` would stop after the first page.
                self._connection.executescript(f"PRAGMA incremental_vacuum({COMPACT_PAGES})")

    def _execute(self, statement: str, *values: float | str | None) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _explained(self._path, named(error)) from None


@contextmanager
def open_journal(path: Path, clocks: Clocks = Clocks()) -> Iterator[Journal]:  # noqa: B008  immutable
    """Open the journal for this process alone, creating folder and file where needed; compact it at the end.

    A damaged one is put aside, and a new one begun: `Journal.note` says so.

    Raises:
        JournalLocked: another simulator has it open.
        JournalError: the file is no journal of this format, or the disk refused.
    """
    try:
        connection, calendar, note = _opened(path, clocks)
    except FileError as error:
        raise _explained(path, error) from None
    with closing(connection):
        yield Journal(connection, path, calendar, note)
        _compact(connection)


def _opened(path: Path, clocks: Clocks) -> tuple[sqlite3.Connection, Calendar, str]:
    try:
        return *_connected(path, clocks), ""
    except NotADatabase:  # rather a file that was named by mistake
        raise
    except Damaged as damage:
        lost = f"damaged ({damage}); it is kept as {put_aside(path)}, and what it owed is not sent"
        return *_connected(path, clocks), f"{path}: the journal of owed truths was {lost}: a new one begins"


def _connected(path: Path, clocks: Clocks) -> tuple[sqlite3.Connection, Calendar]:
    connection = open_file(path, FORMAT, STEPS)
    try:
        with named_errors():
            connection.execute("PRAGMA synchronous = OFF")
            _check(connection)
            if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:  # of an earlier format
                _compact(connection)
            return connection, _calendar(connection, clocks)
    except BaseException:
        connection.close()
        raise


def _check(connection: sqlite3.Connection) -> None:
    """Read what SQLite has no opinion of: the ids have to be JSON."""
    for row, content in connection.execute("SELECT row, CAST(id_json AS BLOB) FROM owed"):
        try:
            json.loads(content)
        except ValueError:
            raise Damaged(f"the id in row {row} is not JSON") from None


def _compact(connection: sqlite3.Connection) -> None:
    """Write the file anew, without what is free in it. If the disk has no room for that, it stays as it is."""
    with suppress(sqlite3.Error):  # only space is at stake
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")


def _calendar(connection: sqlite3.Connection, clocks: Clocks) -> Calendar:
    """Go on with the calendar by which the rows are counted; after a restart of the machine, begin one by the wall.

    Where the wall clock was set back meanwhile, rows from the future count as sent just now.
    """
    known = connection.execute("SELECT boot, ahead FROM calendar WHERE EXISTS (SELECT * FROM owed)").fetchone()
    boot = clocks.boot()
    if known is not None and known[0] == boot != "":
        return Calendar(clocks.monotonic, known[1])
    calendar = Calendar(clocks.monotonic, clocks.wall() - clocks.monotonic())
    now = calendar.now()
    with connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM calendar")
        connection.execute("INSERT INTO calendar VALUES (?, ?)", (boot, calendar.ahead))
        connection.execute("UPDATE owed SET at = ?, due = ? + due - at WHERE at > ?", (now, now, now))
    return calendar


def _explained(path: Path, error: FileError) -> JournalError:
    """Return what is wrong with the file as a sentence for the person who has to act on it."""
    journal = f"{path}: the journal of owed truths"
    if isinstance(error, InUse):
        return JournalLocked(f"{path}: another simulator works on this journal; give --journal another file")
    if isinstance(error, OtherFormat):
        return JournalError(f"{path}: not a journal of this version of streamsim; give --journal another file")
    if isinstance(error, NotADatabase):
        return JournalError(f"{path}: not a journal; move it away, or give --journal another file")
    if isinstance(error, NotWritable):
        return JournalError(f"{journal} cannot be written: {error}; what it holds is kept: make room, then --resume")
    if isinstance(error, Damaged):
        return JournalError(f"{journal} is damaged: {error}; the next run puts it aside, and begins a new one")
    return JournalError(f"{journal} is not usable: {error}; give --journal another file")

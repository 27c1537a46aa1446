"""The truths that are still owed, on disk, so that neither Ctrl-C nor kill -9 loses one.

A row is written before its prediction is asked for, completed when the prediction is acknowledged, and removed when
the request failed or the service has definitively answered the truth. A process killed in between leaves rows: what
was acknowledged, and what was still in flight and may have been (the service answers those as unknown if it was not).

SQLite in WAL mode without fsync: the pages of a killed process stay with the operating system. A power failure may
lose the last seconds.
"""

import errno
import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from streamsim.clocks import Calendar, Clocks
from streamsim.errors import JournalError, JournalLocked
from streamsim.owed import Damaged, OtherFormat, Owed, compact, is_damage, prepare
from streamsim.salvage import beside, bytes_of, salvage, take_over
from streamsim.sqlite_pages import read_log

COMPACT_EVERY: Final = 256
"""Removed rows; some six pages of them."""
COMPACT_PAGES: Final = 32
"""Given back at once at most: half a millisecond's work."""
SPARE_PAGES: Final = 256
"""Kept for what comes next, so that a journal whose rows come and go is not cut and grown again all the time."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Journal:
    """The open journal. Use `open_journal`. Every method raises `JournalError` when the disk fails."""

    def __init__(self, connection: sqlite3.Connection, path: Path, calendar: Calendar) -> None:
        self._connection = connection
        self._path = path
        self._forgotten = 0
        self.now = calendar.now
        """Epoch seconds by which all times in here are counted. No step of the wall clock moves them."""
        self.note = ""
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
            raise _unusable(self._path, error) from None


@contextmanager
def open_journal(path: Path, clocks: Clocks = Clocks()) -> Iterator[Journal]:  # noqa: B008  immutable
    """Open the journal for this process alone, creating folder and file where needed; compact it at the end.

    Of a damaged one it saves what can be read, and says so in `Journal.note`.

    Raises:
        JournalLocked: another simulator has it open.
        JournalError: the file is no journal of this format, or the disk refused.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(path))
            was_empty = path.is_file() and not path.stat().st_size
            connection, aside = _opened(path)
            stack.enter_context(closing(connection))
            journal = Journal(connection, path, _calendar(connection, clocks))
            journal.note = _note(journal, path, aside, was_empty=was_empty)
        except OtherFormat:
            reason = "not a journal of this version of streamsim; give --journal another file"
            raise JournalError(f"{path}: {reason}") from None
        except (sqlite3.Error, OSError, Damaged) as error:
            raise _unusable(path, error) from None
        yield journal
        compact(connection)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of our own from before the first look at the files: SQLite's begins later, and ends with a file."""
    with beside(path, ".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked_by_another(path) from None
        yield


def _opened(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Connect to the journal, or to what could be saved of it; then also return where the damaged one is now."""
    aside = take_over(path)
    log = bytes_of(beside(path, "-wal"))
    # SQLite would drop without a word what stands behind damage in its log, and the log of a file that is gone.
    if not read_log(log).whole or (log and not (path.exists() and path.stat().st_size)):
        aside = salvage(path, log)
    try:
        return _connected(path), aside
    except Damaged:
        aside = salvage(path, log)
        return _connected(path), aside


def _connected(path: Path) -> sqlite3.Connection:
    # Autocommit: each statement is one small transaction, about 5 us. timeout 0: a lock is an answer, not a wait.
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


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


def _note(journal: Journal, path: Path, aside: Path | None, *, was_empty: bool) -> str:
    if aside is not None:
        saved = f"{len(journal)} truths could be read and are still owed"
        return f"{path}: the journal of owed truths was damaged; {saved}; the damaged file is kept as {aside}"
    if was_empty:
        return f"{path}: the journal of owed truths was an empty file; if it was longer once, what it owed is lost"
    return ""


def _locked_by_another(path: Path) -> JournalLocked:
    return JournalLocked(f"{path}: another simulator works on this journal; give --journal another file")


def _unusable(path: Path, error: Exception) -> JournalError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_BUSY"):
        return _locked_by_another(path)
    journal = f"{path}: the journal of owed truths"
    reason = error.strerror if isinstance(error, OSError) else str(error)
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) or getattr(error, "errno", None) in NO_ROOM:
        return JournalError(f"{journal} cannot be written: {reason}; what it holds is kept: make room, then --resume")
    if is_damage(error):
        return JournalError(f"{journal} is damaged: {reason}; the next run saves what can be read of it")
    return JournalError(f"{journal} is not usable: {reason}; give --journal another file")

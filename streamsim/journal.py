"""The truths that are still owed, on disk, so that neither Ctrl-C nor kill -9 loses one.

A row is written before its prediction is asked for, completed when the prediction is acknowledged, and removed when
the request failed or the service has definitively answered the truth. A process killed in between leaves rows: what
was acknowledged, and what was still in flight and may have been (the service answers those as unknown if it was not).

SQLite in WAL mode without fsync: the pages of a killed process stay with the operating system. A power failure may
lose the last seconds.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from streamsim.errors import JournalError, JournalLocked

FORMAT: Final = 2
_TABLE: Final = """
CREATE TABLE owed (
    row INTEGER PRIMARY KEY,
    id_json TEXT NOT NULL,
    truth REAL NOT NULL,        -- kcal
    predicted REAL,             -- kcal; NULL until the prediction is acknowledged
    at REAL NOT NULL,           -- epoch seconds: sent, later acknowledged
    due REAL NOT NULL,          -- epoch seconds
    attempts INTEGER NOT NULL DEFAULT 0,
    span TEXT                   -- trace and span id of a traced prediction, in hexadecimal
) STRICT
"""
_FROM_FORMAT_1: Final = "ALTER TABLE owed ADD COLUMN span TEXT"


class Owed(NamedTuple):
    """One owed truth. Times are epoch seconds by this machine's clock; `predicted` is None when not acknowledged."""

    row: int
    id_json: str
    truth: float
    predicted: float | None
    at: float
    due: float
    attempts: int
    span: str | None = None
    """The prediction's span, where it was traced; see `streamsim.client.Identity.reference`."""


class Journal:
    """The open journal. Use `open_journal`. Every method raises `JournalError` when the disk fails."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

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

    def count_attempt(self, row: int) -> None:
        """Note a delivery that has to be tried again."""
        self._execute("UPDATE owed SET attempts = attempts + 1 WHERE row = ?", row)

    def get(self, row: int) -> Owed:
        """Read one row."""
        return Owed(*self._execute("SELECT * FROM owed WHERE row = ?", row).fetchone())

    def __iter__(self) -> Iterator[Owed]:
        """All rows, the first due first."""
        return (Owed(*values) for values in self._execute("SELECT * FROM owed ORDER BY due"))

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM owed").fetchone()[0])

    def _execute(self, statement: str, *values: float | str | None) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from None


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open the journal for this process alone, creating folder and file where needed; compact it when it ends empty.

    Raises:
        JournalLocked: another simulator has it open.
        JournalError: the file is no journal of this format, or the disk refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Autocommit: each statement is one small transaction, about 5 us. timeout 0: a lock is an answer, not a wait.
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    except (sqlite3.Error, OSError) as error:
        raise _unusable(path, error) from None
    with closing(connection):
        try:
            _prepare(connection, path)
        except sqlite3.Error as error:
            raise _unusable(path, error) from None
        journal = Journal(connection, path)
        yield journal
        if not len(journal):
            with suppress(sqlite3.Error):  # only space is at stake
                connection.execute("VACUUM")


def _unusable(path: Path, error: Exception) -> JournalError:
    if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorname.startswith("SQLITE_BUSY"):
        return JournalLocked(f"{path}: another simulator works on this journal; give --journal another file")
    return JournalError(f"{path}: the journal of owed truths is not usable: {error}; give --journal another file")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # Exclusive before the first access: the lock then lasts as long as the connection, and dies with the process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN EXCLUSIVE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif version == 1:
        connection.execute(_FROM_FORMAT_1)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif version != FORMAT:
        raise JournalError(f"{path}: not a journal of this version of streamsim; give --journal another file")
    connection.execute("COMMIT")

"""An owed truth, and the file in which they stand: its tables, and how the formats of earlier versions become them."""

import sqlite3
from contextlib import suppress
from typing import Final, NamedTuple

FORMAT: Final = 3
_OWED: Final = """
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
_CALENDAR: Final = """
CREATE TABLE calendar (         -- one row: what the times of all others are counted by
    boot TEXT NOT NULL,         -- which start of the machine
    ahead REAL NOT NULL         -- epoch seconds less those of its monotonic clock
) STRICT
"""
_FROM: Final = {0: (_OWED, _CALENDAR), 1: ("ALTER TABLE owed ADD COLUMN span TEXT", _CALENDAR), 2: (_CALENDAR,)}
"""What makes a format into this one; 0 is a file without anything."""
PAGE_BYTES: Final = 4096
CHECKPOINT_PAGES: Final = 256
"""After so many the write-ahead log is taken over and begun anew: a mebibyte, and less than a millisecond's work."""
_INCREMENTAL: Final = 2


class Owed(NamedTuple):
    """One owed truth. Times are epoch seconds by the journal's calendar; `predicted` is None when not acknowledged."""

    row: int
    id_json: str
    truth: float
    predicted: float | None
    at: float
    due: float
    attempts: int
    span: str | None = None
    """The prediction's span, where it was traced; see `streamsim.answers.Identity.reference`."""


class OtherFormat(Exception):
    """The file is a database, and no journal that this version knows."""


class Damaged(Exception):
    """The file cannot be read, or not all of it."""


def prepare(connection: sqlite3.Connection) -> None:
    """Lock the file for this connection, see that it is whole, and bring it to this format.

    Raises:
        OtherFormat: another program's file, or that of a later version; it is as it was.
        Damaged: something in it is not as SQLite wrote it.
        sqlite3.Error: it is locked, or the disk refused.
    """
    try:
        _prepare(connection)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise Damaged(str(error)) from None
        raise


def is_damage(error: Exception) -> bool:
    """Whether SQLite has read what it cannot have written."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def _prepare(connection: sqlite3.Connection) -> None:
    # Exclusive before the first access: the lock then lasts as long as the connection, and dies with the process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in {*_FROM, FORMAT} or (version == 0 and _has_tables(connection)):
        raise OtherFormat
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise Damaged(found)
    connection.execute("ROLLBACK")
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a file that has nothing in it yet
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA secure_delete = ON")  # a page that can still be read holds what is owed, nothing else
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * PAGE_BYTES}")
    if version != FORMAT:
        connection.execute("BEGIN")
        for statement in (*_FROM[version], f"PRAGMA user_version = {FORMAT}"):
            connection.execute(statement)
        connection.execute("COMMIT")
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
        compact(connection)


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def compact(connection: sqlite3.Connection) -> None:
    """Write the file anew, without what is free in it. If the disk has no room for that, it stays as it is."""
    with suppress(sqlite3.Error):  # only space is at stake
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")

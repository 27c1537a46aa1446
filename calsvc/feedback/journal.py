"""A file of what a store was told, so that the next process knows it: batches of entries, each written in one go.

SQLite in WAL mode: what was written outlives a killed process, since its pages are with the operating system; a power
failure may cost the last moment, and never the file. Everything here blocks, and belongs into a thread.
"""

import shutil
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import msgspec

from calsvc.feedback.entries import Entry, decode, encode

FORMAT: Final = 1
TRIMMED_AT_ONCE: Final = 1000
"""Batches that are looked at in one go when old ones are removed."""
_TABLE: Final = """
CREATE TABLE batches (
    number INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,         -- of the machine, as long as `monotonic` is comparable
    monotonic REAL NOT NULL,    -- seconds: when it was written
    wall REAL NOT NULL,         -- epoch seconds of the same moment
    entries INTEGER NOT NULL,
    checksum INTEGER NOT NULL,  -- CRC-32 of the content
    content BLOB NOT NULL       -- MessagePack
) STRICT
"""
_HEADER_BYTES: Final = b"SQLite format 3\0"
_DAMAGE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


class JournalError(Exception):
    """The disk does not do what it should."""


class Damaged(JournalError):
    """The file is not what it was when it was written."""


class InUse(JournalError):
    """Another process has the file open."""


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


class Batch(NamedTuple):
    """What was written in one go, `at` seconds of the reader's clock."""

    number: int
    at: float
    entries: list[Entry]


class Journal:
    """The open file, this process's alone. Use `open_journal`. Every method may raise `JournalError`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._file = path.stat().st_ino
        self._entries = 0

    def batches(self, now: Moment) -> Iterator[Batch]:
        """Yield all, the oldest first. Where that ends with `Damaged`, see `salvage`."""
        for batch in _read(self._connection, now, "ORDER BY number"):
            self._entries += len(batch.entries)
            yield batch

    def write(self, entries: Sequence[Entry], now: Moment) -> None:
        """Write a batch: from here on it is there, whatever happens to this process."""
        content = encode(entries)
        statement = "INSERT INTO batches (boot, monotonic, wall, entries, checksum, content) VALUES (?, ?, ?, ?, ?, ?)"
        self._execute(statement, *now, len(entries), zlib.crc32(content), content)
        self._entries += len(entries)

    def trim(self, now: Moment, age: float, most: int) -> None:
        """Forget some batches of more than `age` seconds, and the oldest beyond `most` entries."""
        oldest = "SELECT boot, monotonic, wall, number, entries FROM batches ORDER BY number LIMIT ?"
        last = None
        for *written, number, count in self._execute(oldest, TRIMMED_AT_ONCE).fetchall():
            if now.monotonic - Moment(*written).seen_from(now) <= age and self._entries <= most:
                break
            last, self._entries = number, self._entries - count
        if last is not None:
            self._execute("DELETE FROM batches WHERE number <= ?", last)

    @property
    def in_place(self) -> bool:
        """Whether the file is still where it was opened: one that was deleted goes on taking what nobody will find."""
        with suppress(OSError):
            return self._path.stat().st_ino == self._file
        return False

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _execute(self, statement: str, *values: float | str | bytes) -> sqlite3.Cursor:
        with _named_errors():
            return self._connection.execute(statement, values)


def _read(connection: sqlite3.Connection, now: Moment, which: str, *values: int) -> Iterator[Batch]:
    query = f"SELECT boot, monotonic, wall, number, checksum, content FROM batches {which}"  # noqa: S608 - no input
    with _named_errors():
        for *written, number, checksum, content in connection.execute(query, values):
            if zlib.crc32(content) != checksum:
                raise Damaged(f"holds something else than was written, in batch {number}")
            yield Batch(number, Moment(*written).seen_from(now), decode(content))


def salvage(path: Path, now: Moment) -> list[Batch]:
    """Return what can be read of a damaged file from its beginning, and from its end, the oldest first.

    Works on a copy: SQLite refuses a file that is shorter than it says, and would write to it where it does not.
    """
    with TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder, "copy")
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
        _lengthen(copy)
        found = _readable(copy, now)
        if not found and (log := copy.with_name("copy-wal")).exists():  # perhaps it is the log that is spoiled
            log.unlink()
            found = _readable(copy, now)
        return found


def _lengthen(file: Path) -> None:
    """Fill up with zeros what is missing to the length that a database's header tells."""
    with file.open("r+b") as opened:
        header = opened.read(32)
        if len(header) == len(_HEADER_BYTES) + 16 and header.startswith(_HEADER_BYTES):
            page = int.from_bytes(header[16:18]) or 65536
            opened.truncate(max(file.stat().st_size, page * int.from_bytes(header[28:32])))


def _readable(file: Path, now: Moment) -> list[Batch]:
    first: list[Batch] = []
    last: list[Batch] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        with suppress(JournalError):
            first.extend(_read(connection, now, "ORDER BY number"))
        with suppress(JournalError):
            after = first[-1].number if first else 0
            last.extend(_read(connection, now, "WHERE number > ? ORDER BY number DESC", after))
    return [*first, *reversed(last)]


def open_journal(path: Path) -> Journal:
    """Open the file for this process alone, made where there is none.

    Raises:
        InUse: another process has it.
        Damaged: it is not what it was.
        JournalError: it is no journal of this format, or the disk does not let us.
    """
    with _named_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.stat().st_size:
            raise Damaged("is empty")  # what was never finished, or was cut off: SQLite would take it for a new one
        # Autocommit: each statement is a transaction. Any thread: they take turns.
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        with _named_errors():
            _prepare(connection)
        return Journal(connection, path)
    except BaseException:
        connection.close()
        raise


def _prepare(connection: sqlite3.Connection) -> None:
    # Exclusive before the first access: the lock then lasts as long as the connection, and dies with the process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN EXCLUSIVE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    elif version != FORMAT:
        raise JournalError("is not a store of this version of calsvc")
    connection.execute("COMMIT")


@contextmanager
def _named_errors() -> Iterator[None]:
    """Raise what SQLite, the operating system and MessagePack raise as errors of this module."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise InUse("is in use by another process") from None
        raise (Damaged if name.startswith(_DAMAGE) else JournalError)(str(error)) from None
    except OSError as error:
        raise JournalError(error.strerror or str(error)) from None
    except msgspec.MsgspecError as error:
        raise Damaged(str(error)) from None

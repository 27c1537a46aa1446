"""A SQLite file that one process at a time has open: checked when it is opened, and put aside where it is damaged.

It is in WAL mode: what was written outlives a killed process, since its pages are with the operating system.
"""

import errno
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = 4096
CHECKPOINT_PAGES: Final = 256
"""After so many the write-ahead log is copied into the file and begun anew: a mebibyte."""
_SUFFIXES: Final = ("-wal", "-shm", "-journal", "")
"""Of the files that belong together. The log is the first to go: it must not lie beside a file that is not its own."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileError(Exception):
    """The file cannot be used. The message says why, and not which file it is."""


class InUse(FileError):
    """Another process has it open."""


class NotWritable(FileError):
    """The disk is full, or fails."""


class Damaged(FileError):
    """It holds what SQLite, or this program, cannot have written."""


class NotADatabase(Damaged):
    """It does not begin as files of SQLite do."""


class OtherFormat(FileError):
    """Its tables are another program's, or those of another version. It is as it was."""

    def __init__(self, version: int, tables: Sequence[str]) -> None:
        super().__init__("was not written by this version")
        self.version, self.tables = version, tables


def open_file(path: Path, version: int, steps: Mapping[int, Sequence[str]]) -> sqlite3.Connection:
    """Open a file for this process alone, created where there is none; each statement is a transaction.

    Args:
        path: of the file; its folder is created, too.
        version: of its tables, kept in it as `user_version`.
        steps: the versions that can be taken over, each with the statements that do it; 0 is a file without tables.

    Raises:
        InUse, Damaged, OtherFormat, NotWritable: see there.
        FileError: the operating system does not let us.
    """
    with named_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        wal, *_ = _parts(path)
        if (path.is_file() and not path.stat().st_size) or (wal.exists() and not path.exists()):
            raise Damaged("is empty, or gone")  # SQLite would take it for a new one, and drop its log
        # Any thread may use it, one at a time. timeout 0: that it is locked is an answer, and nothing to wait for.
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, version, steps)
        except BaseException:
            connection.close()
            raise
        return connection


def put_aside(path: Path, name: str = "damaged") -> Path:
    """Rename a file, and what SQLite keeps beside it, to `<path>.<name>`; where that exists, to `<path>.<name>-2`."""
    names = (path.with_name(f"{path.name}.{name}{f'-{number}' if number > 1 else ''}") for number in count(1))
    aside = next(each for each in names if not any(part.exists() for part in _parts(each)))
    with named_errors():
        for part, new in zip(_parts(path), _parts(aside), strict=True):
            with suppress(FileNotFoundError):
                part.rename(new)
    return aside


def remove(path: Path) -> None:
    """Delete a file, and what SQLite keeps beside it."""
    with named_errors():
        for part in _parts(path):
            part.unlink(missing_ok=True)


@contextmanager
def named_errors() -> Iterator[None]:
    """Raise what SQLite and the operating system raise as a `FileError`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise named(error) from None


def named(error: sqlite3.Error | OSError) -> FileError:
    """Return what SQLite or the operating system has raised as a `FileError`."""
    if isinstance(error, OSError):
        return (NotWritable if error.errno in _NO_ROOM else FileError)(error.strerror or str(error))
    kind = _kind(getattr(error, "sqlite_errorname", ""))
    return kind("is in use by another process" if kind is InUse else str(error))


def _kind(code: str) -> type[FileError]:
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return InUse
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return NotWritable
    if code == "SQLITE_NOTADB":
        return NotADatabase
    return Damaged if code.startswith("SQLITE_CORRUPT") else FileError


def _prepare(connection: sqlite3.Connection, version: int, steps: Mapping[int, Sequence[str]]) -> None:
    # Exclusive before the first access: the lock then lasts as long as the connection, and dies with the process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    if connection.execute("PRAGMA page_count").fetchone()[0] == 0:  # later it would change nothing
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("BEGIN EXCLUSIVE")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    if found not in {*steps, version} or (found == 0 and tables):
        raise OtherFormat(found, tables)
    answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise Damaged(answer.splitlines()[-1])  # behind a headline
    connection.execute("ROLLBACK")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * PAGE_BYTES}")
    if found != version:
        connection.execute("BEGIN")
        for statement in (*steps[found], f"PRAGMA user_version = {version}"):
            connection.execute(statement)
        connection.execute("COMMIT")


def _parts(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _SUFFIXES]

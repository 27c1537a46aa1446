"""A damaged journal: what can be read of it goes on in a fresh one, and the damaged files stay beside it.

A row is taken over only as a whole, and only if it can be one. One that had been removed just before may come back; its
truth is then a duplicate.
"""

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from streamsim.errors import JournalError
from streamsim.owed import Owed, prepare
from streamsim.sqlite_pages import Value, pages_of, read_log, rows_of

OURS: Final = b"CREATE TABLE owed ("
COLUMNS: Final = (7, 8)
"""A row has no span where it was written before there were any."""
LONGEST_DELAY_S: Final = 30 * 86_400.0
"""That a truth may be due after its prediction."""


def beside(path: Path, suffix: str) -> Path:
    """Return a file of the journal's: its write-ahead log, its lock, its successor."""
    return path.with_name(path.name + suffix)


def bytes_of(path: Path) -> bytes:
    """Read a file; one that is not there is empty."""
    return path.read_bytes() if path.exists() else b""


def salvage(path: Path, log: bytes) -> Path:
    """Put a fresh journal in the place of a damaged one, with all that can be read of it and of its write-ahead log.

    Returns:
        where the damaged file is now.

    Raises:
        JournalError: there is nothing in it of a journal; nothing was touched.
        OSError, sqlite3.Error: the fresh one cannot be written; the damaged one is as it was.
    """
    data = bytes_of(path)
    rows, calendar = read_rows(data, log)
    if not rows and OURS not in data and OURS not in log:
        raise JournalError(
            f"{path}: not a journal of owed truths, or nothing of it can be read; move it away, or give --journal "
            "another file"
        )
    unfinished = beside(path, ".unfinished")
    for leftover in (unfinished, beside(unfinished, "-wal")):
        leftover.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
        prepare(connection)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO owed VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO calendar VALUES (?, ?)", calendar)
        connection.execute("COMMIT")
    unfinished.replace(beside(path, ".fresh"))
    aside = take_over(path)
    assert aside is not None  # noqa: S101  it was made a moment ago
    return aside


def take_over(path: Path) -> Path | None:
    """Put a journal that was salvaged in its place; None where there is none. May be killed, and called again."""
    fresh = beside(path, ".fresh")
    if not fresh.exists():
        return None
    aside = next(each for each in _names(path) if not each.exists())
    # The log first: it must never lie beside a file that it does not belong to.
    for part in ("-wal", ""):
        if (damaged := beside(path, part)).exists():
            damaged.replace(beside(aside, part))
    fresh.replace(path)
    return aside


def _names(path: Path) -> Iterator[Path]:
    number = 1
    while True:
        yield beside(path, ".damaged" if number == 1 else f".damaged-{number}")
        number += 1


def read_rows(data: bytes, log: bytes) -> tuple[list[Owed], list[tuple[str, float]]]:
    """Return every row that can be read, the newest of each number, and the calendar by which they are counted."""
    rows, calendar = dict[int, Owed](), list[tuple[str, float]]()
    for number, page in sorted(pages_of(data, read_log(log)).items()):
        for row, values in rows_of(number, page):
            if (owed := _owed(row, values)) is not None:
                if owed.predicted is not None or row not in rows:  # of two versions, the one that knows more
                    rows[row] = owed
            elif len(values) == 2 and isinstance(values[0], str) and isinstance(values[1], float):
                calendar = [(values[0], values[1])]
    return list(rows.values()), calendar


def _owed(row: int, values: tuple[Value, ...]) -> Owed | None:
    """Return the row if it can be one, which what is damaged hardly ever is."""
    if len(values) not in COLUMNS or values[0] is not None:
        return None
    id_json, truth, predicted, at, due, attempts, *more = values[1:]
    span = more[0] if more else None
    try:
        kcal = None if predicted is None else _number(predicted)
        return Owed(row, _id(id_json), _number(truth), kcal, *_times(at, due), int(_number(attempts)), _span(span))
    except ValueError:
        return None


def _id(value: Value) -> str:
    if not (isinstance(value, str) and isinstance(json.loads(value), int | str)):
        raise ValueError(value)
    return value


def _number(value: Value) -> float:
    if not (isinstance(value, int | float) and math.isfinite(value)):
        raise ValueError(value)
    return value


def _times(at: Value, due: Value) -> tuple[float, float]:
    times = _number(at), _number(due)
    if not 0 <= times[1] - times[0] <= LONGEST_DELAY_S:
        raise ValueError(times)
    return times


def _span(value: Value) -> str | None:
    if not (value is None or (isinstance(value, str) and len(value) == 48)):
        raise ValueError(value)
    return value

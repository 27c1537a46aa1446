"""Owed truths stay on disk until they are settled, for one process at a time."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streamsim.errors import JournalError, JournalLocked
from streamsim.journal import Owed, open_journal

WRITE_AND_DIE = """
import os, signal, sys
from contextlib import closing
from pathlib import Path
from streamsim.journal import open_journal
with open_journal(Path(sys.argv[1])) as journal:
    row = journal.intend('"a.1"', 50.0, 1000.0, 1300.0)
    journal.acknowledge(row, 49.5, 1001.0, 1301.0)
    journal.intend("7", 60.0, 1002.0, 1302.0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_row_goes_from_intended_to_acknowledged_to_forgotten(tmp_path: Path):
    """Each step is what a reader sees."""
    with open_journal(tmp_path / "new folder" / "owed.db") as journal:
        row = journal.intend("7", 60.0, 1000.0, 1300.0)
        assert journal.get(row) == Owed(row, "7", 60.0, None, 1000.0, 1300.0, 0)
        journal.acknowledge(row, 59.0, 1001.0, 1301.0)
        journal.count_attempt(row)
        assert list(journal) == [Owed(row, "7", 60.0, 59.0, 1001.0, 1301.0, 1)]
        journal.forget(row)
        assert len(journal) == 0


def test_kill_9_loses_nothing(tmp_path: Path):
    """A process that is killed right after its writes leaves them, in the order in which they are due."""
    path = tmp_path / "owed.db"
    killed = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with open_journal(path) as journal:
        assert [(owed.id_json, owed.predicted) for owed in journal] == [('"a.1"', 49.5), ("7", None)]


def test_a_second_simulator_is_told_so(tmp_path: Path):
    """The journal is locked as long as it is open, and free afterwards."""
    path = tmp_path / "owed.db"
    with open_journal(path), pytest.raises(JournalLocked, match="give --journal another file"), open_journal(path):
        pass
    with open_journal(path) as journal:
        assert len(journal) == 0


def test_an_emptied_journal_is_compacted(tmp_path: Path):
    """What ten thousand truths took is given back once they are settled."""
    path = tmp_path / "owed.db"
    with open_journal(path) as journal:
        rows = [journal.intend(f'"{n}"', 1.0, 0.0, 0.0) for n in range(10_000)]
        for row in rows:
            journal.forget(row)
    assert path.stat().st_size < 20_000
    assert os.listdir(tmp_path) == ["owed.db"]  # noqa: PTH208


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 20, None])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes | None):
    """A text file, and a folder."""
    path = tmp_path / "owed.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(JournalError, match=r"owed\.db.*give --journal another file"), open_journal(path):
        pass
    assert content is None or path.read_bytes() == content


def test_the_journal_of_an_earlier_version_is_taken_over(tmp_path: Path):
    """What an earlier version owed is owed still; that version did not know spans."""
    path = tmp_path / "owed.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE owed (row INTEGER PRIMARY KEY, id_json TEXT NOT NULL, truth REAL NOT NULL, predicted REAL,"
            " at REAL NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0) STRICT"
        )
        connection.execute("INSERT INTO owed VALUES (7, '\"a\"', 5.0, 6.0, 1.0, 2.0, 3)")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    for _ in range(2):
        with open_journal(path) as journal:
            assert list(journal) == [Owed(7, '"a"', 5.0, 6.0, 1.0, 2.0, 3)]


def test_another_format_is_refused(tmp_path: Path):
    """A later version's journal is not touched."""
    path = tmp_path / "owed.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(JournalError, match="not a journal of this version"), open_journal(path):
        pass

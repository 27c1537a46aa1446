"""Owed truths stay on disk until they are settled, for one process at a time."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sqlitefile import CHECKPOINT_PAGES, PAGE_BYTES
from streamsim.clocks import Clocks, boot_id
from streamsim.errors import JournalError, JournalLocked
from streamsim.journal import SPARE_PAGES, open_journal
from streamsim.owed import FORMAT, Owed
from tests.clock import Clock

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


@pytest.mark.parametrize(
    ("step", "passed", "boot", "now"),
    [
        (0, 100, "a", 1100),
        (3600, 100, "a", 1100),
        (-3600, 100, "a", 1100),
        (3600, 100, "b", 4700),
        (-3600, -40, "b", 1000),
        (-3600, 100, "", 1000),
    ],
)
def test_the_wall_clock_decides_only_after_a_restart_of_the_machine(
    tmp_path: Path, step: float, passed: float, boot: str, now: float
):
    """Whoever sets it, a truth that is due in 300 s is due in 200 s when 100 s have passed.

    After a restart, or where no system tells of one, it is all there is; set back, it postpones nothing by more than
    the delay of 300 s.
    """
    path = tmp_path / "owed.db"
    with open_journal(path, Clocks(Clock(50.0), Clock(1_000.0), lambda: "a")) as journal:
        journal.acknowledge(journal.intend("1", 1.0, 1_000.0, 1_300.0), 2.0, 1_000.0, 1_300.0)
    clocks = Clocks(Clock(50.0 + passed), Clock(1_000.0 + passed + step), lambda: boot)
    with open_journal(path, clocks) as journal:
        (owed,) = journal
        assert owed.due - journal.now() == 1_300 - now
        assert owed.due - owed.at == 300


def test_all_processes_of_a_boot_agree_on_it(tmp_path: Path):
    """Linux says which one it is; another process counts on where this one ended."""
    if not sys.platform.startswith("linux"):
        pytest.skip("nobody tells")
    path = tmp_path / "owed.db"
    with open_journal(path) as journal:
        journal.intend("1", 1.0, journal.now(), journal.now() + 300)
        before = journal.now()
    code = (
        "import sys, pathlib, streamsim.journal as j, streamsim.clocks as c\n"
        "with j.open_journal(pathlib.Path(sys.argv[1]), c.Clocks(wall=lambda: 0.0)) as journal:\n"
        "    print(repr(journal.now()))"
    )
    later = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert boot_id() == boot_id() != ""
    assert before < float(later.stdout) < before + 60


def test_a_journal_shrinks_while_it_is_open(tmp_path: Path):
    """Once most of 50,000 truths are settled, their space is given back, and neither file was ever far too large."""
    path, log = tmp_path / "owed.db", tmp_path / "owed.db-wal"
    most = 0
    with open_journal(path) as journal:
        rows = [journal.intend(f'"{n}.1"', n + 0.5, 1e9 + n / 20, 1e9 + n / 20 + 300) for n in range(50_000)]
        full = path.stat().st_size
        for row in rows[:-100]:
            journal.forget(row)
            if row % 1000 == 0:
                most = max(most, log.stat().st_size)
        assert len(journal) == 100
        assert path.stat().st_size < 1.1 * SPARE_PAGES * PAGE_BYTES < full / 1.5
    assert most < 2 * CHECKPOINT_PAGES * PAGE_BYTES


def test_a_journal_that_still_owes_is_compacted_at_the_end(tmp_path: Path):
    """Every hundredth of ten thousand truths stays, scattered over all pages: they fit into some."""
    path = tmp_path / "owed.db"
    with open_journal(path) as journal:
        for row in [journal.intend(f'"{n}"', 1.0, 0.0, 0.0) for n in range(10_000)]:
            if row % 100:
                journal.forget(row)
        assert len(journal) == 100
    assert path.stat().st_size < 40_000


def test_an_emptied_journal_is_compacted(tmp_path: Path):
    """What ten thousand truths took is given back once they are settled."""
    path = tmp_path / "owed.db"
    with open_journal(path) as journal:
        rows = [journal.intend(f'"{n}"', 1.0, 0.0, 0.0) for n in range(10_000)]
        for row in rows:
            journal.forget(row)
    assert path.stat().st_size < 20_000
    assert sorted(os.listdir(tmp_path)) == ["owed.db"]  # noqa: PTH208


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


FORMAT_1 = (
    "CREATE TABLE owed (row INTEGER PRIMARY KEY, id_json TEXT NOT NULL, truth REAL NOT NULL, predicted REAL,"
    " at REAL NOT NULL, due REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0) STRICT"
)
ROWS_OF_FORMAT_1 = [Owed(7, '"a"', 5.0, 6.0, 1.0, 2.0, 3), Owed(8, "42", 5.5, None, 2.0, 302.0, 0)]
ROWS = [
    *(Owed(n, f'"{n}.1"', n + 0.5, n / 2, 1000.0 + n, 1300.0 + n, n % 3, f"{n:048x}") for n in range(1, 5001)),
    Owed(5001, "42", 5.5, None, 6001.0, 6301.0, 0),
]


def written(path: Path, statements: list[str], rows: list[Owed]) -> None:
    """Write a journal as an earlier version did, with more rows that were removed again."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in ("PRAGMA journal_mode = WAL", *statements):
            connection.execute(statement)
        columns = len(connection.execute("SELECT * FROM owed").description)
        insert = f"INSERT INTO owed VALUES ({', '.join('?' * columns)})"  # noqa: S608  a number of question marks
        connection.execute("BEGIN")
        connection.executemany(insert, [(row + 10_000, *rest[: columns - 1]) for row, *rest in ROWS])
        connection.executemany(insert, [each[:columns] for each in rows])
        connection.execute("COMMIT")
        connection.execute("DELETE FROM owed WHERE row > 10000")


@pytest.mark.parametrize(
    ("statements", "rows"),
    [
        ([FORMAT_1, "PRAGMA user_version = 1"], ROWS_OF_FORMAT_1),
        ([FORMAT_1, "ALTER TABLE owed ADD COLUMN span TEXT", "PRAGMA user_version = 2"], ROWS_OF_FORMAT_1),
        ([FORMAT_1.replace(") STRICT", ", span TEXT) STRICT"), "PRAGMA user_version = 2"], ROWS),
    ],
)
def test_the_journal_of_an_earlier_version_is_taken_over(tmp_path: Path, statements: list[str], rows: list[Owed]):
    """What it owed is owed still, by the wall clock, which is all that it knew; what was free in it is given back."""
    path = tmp_path / "owed.db"
    written(path, statements, rows)
    size = path.stat().st_size
    for _ in range(2):
        with open_journal(path, Clocks(Clock(50.0), Clock(7_000.0))) as journal:
            assert list(journal) == sorted(rows, key=lambda owed: owed.due)
            assert journal.now() == 7_000
    assert path.stat().st_size < size * 0.6
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_another_format_is_refused(tmp_path: Path):
    """A later version's journal is not touched."""
    path = tmp_path / "owed.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 4")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="not a journal of this version"), open_journal(path):
        pass
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_refused(tmp_path: Path):
    """One that has tables and says nothing of a version; not a byte of it changes."""
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"photos\.db: not a journal"), open_journal(path):
        pass
    assert path.read_bytes() == before

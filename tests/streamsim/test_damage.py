"""A damaged journal is put aside, and whoever owes the truths in it is told."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sqlitefile import PAGE_BYTES
from streamsim.errors import JournalError
from streamsim.journal import open_journal
from tests.streamsim.fakes import CountingService
from tests.streamsim.test_process import result

COUNT = 3_000
"""Rows; about a page holds thirty."""
WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from streamsim.journal import open_journal
with open_journal(Path(sys.argv[1])) as journal:
    for n in range(1, int(sys.argv[2]) + 1):
        row = journal.intend(f'"{n}.1"', n + 0.5, 1e9 + n, 1e9 + n + 300)
        journal.acknowledge(row, n / 4, 1e9 + n, 1e9 + n + 300, f"{n:048x}" if n % 10 == 0 else None)
        if n % 3 == 0:
            journal.forget(row)
    os.kill(os.getpid(), signal.SIGKILL)
"""
OWED = {f'"{n}.1"' for n in range(1, COUNT + 1) if n % 3}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a journal whose process was killed: part of it is in the file, part in the log."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", WRITE_AND_DIE, str(folder / "owed.db"), str(COUNT)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (folder / "owed.db").stat().st_size > 10 * PAGE_BYTES
    assert (folder / "owed.db-wal").stat().st_size > 50 * PAGE_BYTES
    return folder


@pytest.fixture
def journal(killed: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    return Path(shutil.copytree(killed, tmp_path / "some folder")) / "owed.db"


def opened(path: Path) -> tuple[set[str], str]:
    """What the journal owes, and what the person is told."""
    with open_journal(path) as journal:
        return {owed.id_json for owed in journal}, journal.note


def test_a_killed_process_leaves_no_damage(journal: Path):
    """All of it is owed, and nobody is told anything."""
    assert opened(journal) == (OWED, "")
    assert [path.name for path in journal.parent.iterdir()] == ["owed.db"]


def cut(path: Path) -> None:
    """Half of the file is gone, and its log."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 1234])
    path.with_name("owed.db-wal").unlink()


def pierced(path: Path) -> None:
    """Garbage stands in the middle of it."""
    path.with_name("owed.db-wal").unlink()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3 * PAGE_BYTES] = random.Random(2).randbytes(3 * PAGE_BYTES)
    path.write_bytes(data)


def emptied(path: Path) -> None:
    """Nothing of the file is left; its log still is."""
    path.write_bytes(b"")


def gone(path: Path) -> None:
    """The same, without even a file."""
    path.unlink()


def one_id(path: Path) -> None:
    """One letter of one id is another one: SQLite has nothing against it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("""UPDATE owed SET id_json = '"77' WHERE row = 100""")


def one_byte(path: Path) -> None:
    """The same, and it is no text any more."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("""UPDATE owed SET id_json = CAST(x'22FF22' AS TEXT) WHERE row = 100""")


@pytest.mark.parametrize("damage", [cut, pierced, emptied, gone, one_id, one_byte])
def test_a_damaged_journal_is_put_aside_and_a_new_one_begun(journal: Path, damage: Callable[[Path], None]):
    """The damaged files are kept under names that are told; what is owed from now on stands in a new one."""
    damage(journal)
    before = {name: journal.with_name(name) for name in ("owed.db", "owed.db-wal")}
    kept = {name: path.read_bytes() for name, path in before.items() if path.exists()}
    found, note = opened(journal)
    assert found == set()
    assert "\n" not in note
    assert note.startswith(f"{journal}: the journal of owed truths was damaged (")
    assert note.endswith(f"it is kept as {journal}.damaged, and what it owed is not sent: a new one begins")
    for name, content in kept.items():
        aside = journal.with_name(name.replace("owed.db", "owed.db.damaged"))
        assert aside.read_bytes() == content
    with open_journal(journal) as again:
        assert again.note == ""
        again.intend("1", 1.0, 0.0, 0.0)
    assert opened(journal) == ({"1"}, "")


def test_a_second_damage_does_not_overwrite_the_first(journal: Path):
    """Each damaged file gets a name of its own."""
    for name in ("owed.db.damaged", "owed.db.damaged-2", "owed.db.damaged-3"):
        emptied(journal)
        _, note = opened(journal)
        assert f"it is kept as {journal.with_name(name)}, " in note
        assert journal.with_name(name).exists()


@pytest.mark.parametrize("text", ["id,Sex,Age\n", "id,Sex,Age\n" * 5000])
def test_a_file_that_never_was_a_journal_is_left_alone(tmp_path: Path, text: str):
    """The rows, given by mistake: they are neither moved nor changed."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(JournalError, match=r"rows\.csv: not a journal; move it away"), open_journal(path):
        pass
    assert path.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.anyio
async def test_the_person_is_told_on_stderr(service: CountingService, journal: Path):
    """A `--resume` after damage: one line, no traceback, and a run that has nothing to send."""
    emptied(journal)
    code, said = await result(journal.parent, "stream", "--resume", "--url", service.url, "--journal", "owed.db")
    assert code == 0, said
    (told,) = [line for line in said.splitlines() if "damaged" in line]
    assert told.startswith("streamsim: owed.db: the journal of owed truths was damaged (")
    assert service.truths == {}

"""A damaged journal gives what can be read of it, and whoever owes the truths is told."""

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
from hypothesis import given
from hypothesis import strategies as st

from streamsim.errors import JournalError
from streamsim.journal import open_journal
from streamsim.owed import PAGE_BYTES, Owed
from streamsim.salvage import read_rows
from streamsim.sqlite_pages import pages_of, read_log, rows_of
from tests.examples import few
from tests.streamsim.fakes import CountingService
from tests.streamsim.test_process import result

FRAME = PAGE_BYTES + 24
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


def known(count: int = COUNT) -> dict[str, tuple[object, ...]]:
    """What that process has written down, by id; it owes two thirds of it."""
    return {
        f'"{n}.1"': (n + 0.5, n / 4, 1e9 + n, 1e9 + n + 300, 0, f"{n:048x}" if n % 10 == 0 else None)
        for n in range(1, count + 1)
    }


OWED = {text for n, text in enumerate(known(), 1) if n % 3}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a journal whose process was killed: part of it is in the file, part in the log."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", WRITE_AND_DIE, str(folder / "owed.db"), str(COUNT)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (folder / "owed.db").stat().st_size > 10 * PAGE_BYTES
    assert (folder / "owed.db-wal").stat().st_size > 50 * FRAME
    return folder


@pytest.fixture
def journal(killed: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    return Path(shutil.copytree(killed, tmp_path / "some folder")) / "owed.db"


def opened(path: Path) -> tuple[dict[str, tuple[object, ...]], str]:
    """What the journal owes, and what the person is told."""
    with open_journal(path) as journal:
        return {owed.id_json: owed[2:] for owed in journal}, journal.note


def test_a_killed_process_leaves_nothing_to_salvage(journal: Path):
    """All of it is owed, and nobody is told anything."""
    found, note = opened(journal)
    assert found == {text: values for text, values in known().items() if text in OWED}
    assert note == ""
    assert sorted(path.name for path in journal.parent.iterdir()) == ["owed.db", "owed.db.lock"]


def truncated(path: Path) -> None:
    """Half of the file is gone."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 1234])


def headless(path: Path) -> None:
    """Garbage stands where SQLite's header was, and in some pages behind it."""
    data = path.read_bytes()
    path.write_bytes(random.Random(1).randbytes(6 * PAGE_BYTES + 77) + data[6 * PAGE_BYTES + 77 :])


def pierced(path: Path) -> None:
    """Garbage stands in the middle."""
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


def torn_log(path: Path) -> None:
    """A page in the log, long before its end, is garbage: SQLite would forget all that came after it."""
    log = path.with_name("owed.db-wal")
    data = bytearray(log.read_bytes())
    data[32 + 5 * FRAME + 100 : 32 + 5 * FRAME + 200] = bytes(100)
    log.write_bytes(data)


def headless_log(path: Path) -> None:
    """The log's header is garbage: SQLite would take it for none."""
    log = path.with_name("owed.db-wal")
    log.write_bytes(bytes(32) + log.read_bytes()[32:])


def both(path: Path) -> None:
    """Everything at once."""
    pierced(path)
    torn_log(path)


DAMAGES = {
    truncated: 0.3,
    headless: 0.3,
    pierced: 0.3,
    emptied: 0.1,
    gone: 0.1,
    torn_log: 0.95,
    headless_log: 0.95,
    both: 0.3,
}
"""What was done to the files, and the share of the truths that has to be saved at least."""


@pytest.mark.parametrize(("damage", "share"), DAMAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_can_be_read_of_a_damaged_journal_is_owed_still(
    journal: Path, damage: Callable[[Path], None], share: float
):
    """In a fresh journal; the damaged files are kept, byte by byte, and one line says how many truths there are."""
    damage(journal)
    log = journal.with_name("owed.db-wal")
    before = journal.read_bytes() if journal.exists() else None, log.read_bytes()
    found, note = opened(journal)
    assert len(OWED & found.keys()) >= share * len(OWED)
    assert found.items() <= known().items()  # to the last digit; one or another that was settled is back
    assert len(found.keys() - OWED) < 100
    aside = journal.with_name("owed.db.damaged")
    assert f"was damaged; {len(found)} truths could be read and are still owed" in note
    assert str(aside) in note or before[0] is None
    if damage in {torn_log, headless_log, emptied, gone, both}:
        kept = aside.read_bytes() if aside.exists() else None, log.with_name("owed.db.damaged-wal").read_bytes()
        assert kept == before
    assert opened(journal) == (found, "")


@pytest.mark.parametrize("stage", range(4))
def test_a_process_that_is_killed_while_it_saves_loses_nothing(journal: Path, tmp_path: Path, stage: int):
    """Before the fresh journal is whole, or between its three moves: the next one ends what this one began."""
    torn_log(journal)
    pierced(journal)
    copy = Path(shutil.copytree(journal.parent, tmp_path / "copy")) / "owed.db"
    found, _ = opened(copy)
    beside = {name: journal.with_name(f"owed.db{name}") for name in ("-wal", ".damaged", ".damaged-wal", ".fresh")}
    if stage == 0:
        journal.with_name("owed.db.unfinished").write_bytes(copy.read_bytes()[:5000])
        journal.with_name("owed.db.unfinished-wal").write_bytes(b"half of it")
    else:
        shutil.copy(copy, beside[".fresh"])
    if stage >= 2:
        beside["-wal"].replace(beside[".damaged-wal"])
    if stage == 3:
        journal.replace(beside[".damaged"])
    again, note = opened(journal)
    assert again == found
    assert f"{len(found)} truths could be read" in note
    assert beside[".damaged"].read_bytes() == copy.with_name("owed.db.damaged").read_bytes()
    assert beside[".damaged-wal"].exists()
    assert not list(journal.parent.glob("*.unfinished*")) + list(journal.parent.glob("*.fresh"))


def test_a_second_damage_does_not_overwrite_the_first(journal: Path):
    """Each damaged file gets a name of its own."""
    for name in ("owed.db.damaged", "owed.db.damaged-2"):
        pierced(journal)
        _, note = opened(journal)
        assert note.endswith(name)
        assert journal.with_name(name).exists()


def test_an_empty_file_is_told_of(tmp_path: Path):
    """Nobody knows whether it was a journal once; what is owed from now on stands in it."""
    path = tmp_path / "owed.db"
    path.touch()
    found, note = opened(path)
    assert found == {}
    assert "was an empty file; if it was longer once, what it owed is lost" in note
    assert opened(path) == ({}, "")


def test_a_file_that_never_was_a_journal_is_left_alone(tmp_path: Path):
    """The rows, given by mistake: they are neither moved nor changed."""
    path = tmp_path / "rows.csv"
    path.write_text("id,Sex,Age\n" * 5000)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"rows\.csv: not a journal of owed truths"), open_journal(path):
        pass
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.anyio
async def test_the_person_is_told_on_stderr_and_the_truths_are_sent(service: CountingService, journal: Path):
    """A `--resume` after damage: one line, no traceback, and everything that was saved is delivered."""
    torn_log(journal)
    service.predicted = {f"{n}.1": n / 4 for n in range(1, COUNT + 1)}
    code, said = await result(journal.parent, "stream", "--resume", "--url", service.url, "--journal", "owed.db")
    assert code == 0, said
    told = [line for line in said.splitlines() if "damaged" in line]
    assert len(told) == 1
    assert told[0].startswith("streamsim: owed.db: the journal of owed truths was damaged; ")
    assert f"{len(service.truths)} truths could be read" in told[0]
    assert len(service.truths) >= 0.95 * len(OWED)
    assert all(truth == int(str(name).partition(".")[0]) + 0.5 for name, truth in service.truths.items())


# --- the bytes --------------------------------------------------------------------------------------------------------


garbage = {"at": st.floats(0, 1), "length": st.integers(1, 20_000), "seed": st.integers(0, 1000)}


def read_after(folder: Path, name: str, at: float, length: int, seed: int) -> list[Owed]:
    """Read the rows after garbage of some length was written into one of the two files."""
    files = {each: bytearray((folder / each).read_bytes()) for each in ("owed.db", "owed.db-wal")}
    start = int(at * len(files[name]))
    end = min(len(files[name]), start + length)
    files[name][start:end] = random.Random(seed).randbytes(end - start)
    return read_rows(*map(bytes, files.values()))[0]


@pytest.mark.slow
@given(**garbage)
@few(40)
def test_whatever_is_damaged_in_the_log_a_row_is_read_as_it_was_written_or_not_at_all(
    killed: Path, at: float, length: int, seed: int
):
    """Its checksums tell."""
    every = known()
    for owed in read_after(killed, "owed.db-wal", at, length, seed):
        assert owed.predicted is None or owed[2:] == every[owed.id_json]


@pytest.mark.slow
@given(**garbage)
@few(40)
def test_whatever_is_damaged_in_the_file_the_other_rows_are_read(killed: Path, at: float, length: int, seed: int):
    """SQLite keeps no checksums there: a number that was hit may go unnoticed, but only where the garbage is."""
    every = known()
    found = read_after(killed, "owed.db", at, length, seed)
    assert sum(owed.predicted is not None and owed[2:] != every.get(owed.id_json) for owed in found) <= length / 8 + 2


def test_sqlite_and_this_code_take_the_same_frames_for_true(killed: Path, tmp_path: Path):
    """As many as SQLite itself recovers from the log of the killed process, and none of an earlier use of the file."""
    log = read_log((killed / "owed.db-wal").read_bytes())
    assert log.whole
    path = Path(shutil.copytree(killed, tmp_path / "copy")) / "owed.db"
    with closing(sqlite3.connect(path)) as connection:
        _, recovered, _ = connection.execute("PRAGMA wal_checkpoint").fetchone()
    assert log.valid == recovered > 50


def test_what_was_not_committed_is_no_damage(killed: Path):
    """A log whose last transaction was cut off by a kill is whole; one that lacks a page before others is not."""
    data = (killed / "owed.db-wal").read_bytes()
    end = 32 + read_log(data).valid * FRAME
    assert read_log(data[: end - 100]).whole
    assert read_log(data[: end - FRAME + 24]).whole
    half_written = bytearray(data)
    half_written[end - FRAME + 24 : end] = bytes(PAGE_BYTES)
    assert read_log(bytes(half_written)).whole
    missing = bytearray(data)
    missing[end - 2 * FRAME : end - FRAME] = bytes(FRAME)
    assert not read_log(bytes(missing)).whole


values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=80),
    st.binary(max_size=80),
)


@given(rows=st.lists(st.tuples(values, values, values), min_size=1, max_size=100), first=st.integers(1, 2**62))
@few(30)
def test_rows_are_read_as_sqlite_wrote_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]], first: int
):
    """Whole numbers of every width, floats, texts, bytes and nothing at all, on as many pages as they need."""
    path = tmp_path_factory.mktemp("pages") / "some.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("CREATE TABLE some (row INTEGER PRIMARY KEY, a, b, c)")
        connection.executemany(
            "INSERT INTO some VALUES (?, ?, ?, ?)", [(first + n, *row) for n, row in enumerate(rows)]
        )
    pages = pages_of(path.read_bytes(), read_log(b""))
    read = {row: each[1:] for number, page in pages.items() for row, each in rows_of(number, page) if len(each) == 4}
    assert read == {first + n: row for n, row in enumerate(rows)}

"""A SQLite file is one process's at a time, and never anything between whole and put aside."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sqlitefile import Damaged, FileError, InUse, NotWritable, named_errors, open_file, put_aside, remove

STEPS = {0: ("CREATE TABLE kept (number INTEGER PRIMARY KEY) STRICT",)}
HOLD = """
import sys
from pathlib import Path
from sqlitefile import open_file
connection = open_file(Path(sys.argv[1]), 1, {0: ("CREATE TABLE kept (number INTEGER PRIMARY KEY) STRICT",)})
connection.execute("INSERT INTO kept VALUES (7)")
print("holds it", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder that does not exist yet."""
    return tmp_path / "a folder" / "some.db"


def test_a_file_is_locked_until_its_process_is_gone(path: Path):
    """However that went; and what it has written is there."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds it\n"
        with pytest.raises(InUse, match="is in use by another process"):
            open_file(path, 1, STEPS)
        process.kill()
    with closing(open_file(path, 1, STEPS)) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]


def test_what_lies_beside_a_file_goes_with_it(path: Path):
    """The log of a killed process, to the name that is free in all its parts, and when it is deleted."""
    path.parent.mkdir()
    parts = [path, path.with_name("some.db-wal")]
    for name in ("some.db.damaged", "some.db.damaged-2"):
        for part in parts:
            part.write_text(name)
        aside = put_aside(path)
        assert aside == path.with_name(name)
        assert aside.read_text() == aside.with_name(f"{name}-wal").read_text() == name
        assert not any(part.exists() for part in parts)
        aside.unlink()  # its log is there still, and is not overwritten
    for part in parts:
        part.touch()
    remove(path)
    assert not any(part.exists() for part in parts)


def test_a_log_without_its_file_is_damage(path: Path):
    """SQLite would delete it without a word."""
    path.parent.mkdir()
    log = path.with_name("some.db-wal")
    log.write_bytes(b"all that is left")
    with pytest.raises(Damaged):
        open_file(path, 1, STEPS)
    assert log.read_bytes() == b"all that is left"


def test_a_step_that_fails_is_not_taken_at_all(path: Path):
    """The file is of no version then, and the next who opens it begins anew."""
    with pytest.raises(FileError):
        open_file(path, 1, {0: (*STEPS[0], "no SQL at all")})
    with closing(open_file(path, 1, STEPS)) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_full_disk_has_a_name_of_its_own(path: Path):
    """So that nobody is told to name another file where room is what is missing."""
    with closing(open_file(path, 1, STEPS)) as connection:
        connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(NotWritable), named_errors():
            connection.execute("CREATE TABLE large AS SELECT randomblob(100000)")

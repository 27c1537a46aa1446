"""A disk without room: the run ends with one line, and a later one sends what this one has owed."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tests.needs import mounted, needs
from tests.streamsim.fakes import CountingService
from tests.streamsim.test_process import ENDLESS, assert_settled, ended, environ_of, result

pytestmark = [pytest.mark.anyio, needs("mount")]
KIB = 800
"""Of room; the journal of this many records needs more."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that is full soon; it has more room once it is mounted anew."""
    folder = tmp_path / "a disk"
    folder.mkdir()
    assert mounted(folder, f"size={KIB}k")
    try:
        yield folder
    finally:
        subprocess.run([shutil.which("umount") or "umount", "-l", str(folder)], check=True)


def arguments(service: CountingService, csv: Path, journal: Path) -> tuple[str, ...]:
    """A stream whose truths are due later than the disk is full."""
    where = ("--url", service.url, "--data", str(csv), "--journal", str(journal))
    return ("stream", *where, *ENDLESS, "--rps", "500", "--feedback-delay", "20", "--speed", "4")


def assert_told(code: int, said: str) -> None:
    """One line that says what is wrong and what to do, and exit code 1."""
    assert code == 1, said
    assert "Traceback" not in said
    told = [line for line in said.splitlines() if line.startswith("streamsim: ")]
    assert len(told) == 1, said
    assert "the journal of owed truths cannot be written: " in told[0]
    assert told[0].endswith("what it holds is kept: make room, then --resume")


async def test_a_full_disk_loses_no_truth(service: CountingService, csv: Path, disk: Path):
    """Whatever was acknowledged until then is owed, and delivered once there is room."""
    command = arguments(service, csv, disk / "owed.db")
    code, said = await result(disk, *command)
    assert_told(code, said)
    assert "full" in said
    assert len(service.predicted) > 50
    resume = ("stream", "--resume", "--url", service.url, "--journal", str(disk / "owed.db"))
    assert_told(*await result(disk, *resume))  # there still is none
    assert mounted(disk, "remount,size=64m")
    code, said = await result(disk, *resume)
    assert code == 0, said
    assert_settled(service)


async def test_a_file_that_may_not_grow_loses_no_truth(service: CountingService, csv: Path, tmp_path: Path):
    """The same for who may not mount anything: a limit on the length of files."""
    command = [sys.executable, "-m", "streamsim", *arguments(service, csv, tmp_path / "owed.db")]
    limited = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({KIB * 1024},) * 2)"
    python = [sys.executable, "-c", f"{limited}; os.execv(sys.executable, sys.argv[1:])", *command]
    with anyio.fail_after(60):
        async with await anyio.open_process(python, cwd=tmp_path, env=environ_of()) as process:
            code, said = await ended(process)
    assert_told(code, said)
    assert len(service.predicted) > 50
    code, said = await result(
        tmp_path, "stream", "--resume", "--url", service.url, "--journal", str(tmp_path / "owed.db")
    )
    assert code == 0, said
    assert_settled(service)

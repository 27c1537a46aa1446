"""A peer may be several processes: none of them runs while another is measured, and none is left behind."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.peers.running import Tree, descendants
from tests.bench.processes import Server


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="descendants are read from /proc")
def test_a_server_ends_with_all_that_it_has_started(tmp_path: Path):
    """A child in a session of its own that takes no notice of the end is ended too, and frozen before."""
    child = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
    with (tmp_path / "log").open("w+b") as log:
        process = subprocess.Popen([sys.executable, "-c", parent], stdout=log)
        tree = Tree(Server(process, 1, log), patience=0.2)
        try:
            assert _becomes(lambda: (tmp_path / "log").read_text() == "up\n")
            everyone = descendants(process.pid)
            tree.freeze()
            assert _becomes(lambda: [_state(pid) for pid in everyone] == ["T", "T"])
        finally:
            tree.stop()
    assert process.returncode is not None
    assert _becomes(lambda: _state(everyone[1]) in ("", "Z"))


def _becomes(true: Callable[[], bool]) -> bool:
    """Tell whether something comes true within half a minute."""
    until = time.monotonic() + 30
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


def _state(pid: int) -> str:
    """The letter of /proc for what a process does; nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""

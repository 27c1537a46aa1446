"""Run a command in a session of its own, read its lines until it has ended, and end the processes that it leaves."""

import os
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

_PROC: Final = Path("/proc")
_MARK: Final = "TRAINING_ID"
"""Environment variable by which a process is known that the command has started and that has left its session."""
_POLL: Final = 0.1
"""Seconds between two looks at whether a silent process has ended."""
_LAST_OUTPUT: Final = 2**20
"""Bytes that are read at most after the process has ended: no pipe holds more, what comes then is another's."""
_GRACE: Final = 1.0
"""Seconds for what is left to end by itself: multiprocessing's and joblib's trackers remove shared memory then."""
_PATIENCE: Final = 5.0
"""Seconds to look for processes that are left: each may start another one before it is killed."""


def run_alone(command: list[str], folder: Path, errors: IO[bytes], on_line: Callable[[str], None]) -> int:
    """Run a command in `folder` and a session of its own; return its exit code, negative for a signal.

    `on_line` gets each line of its stdout, `errors` its stderr. Processes that it has started and left are killed, also
    where this call ends by an exception.
    """
    mark = uuid.uuid4().hex
    # Bytecode is refused in the environment too: a process that the command starts does not inherit -B.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", _MARK: mark}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
    try:
        for line in _lines(process):
            on_line(line.decode("utf-8", "replace").rstrip())
        return process.wait()
    finally:
        process.kill()  # does nothing where it has ended
        process.wait()
        _end_what_is_left(process.pid, mark)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield lines until stdout ends, or the process: another one that has inherited its stdout may keep that open."""
    assert process.stdout is not None  # noqa: S101 - PIPE was asked for
    unfinished = b""
    with process.stdout as stdout:
        for some in _output(process, stdout.fileno()):
            *lines, unfinished = (unfinished + some).split(b"\n")
            yield from lines
    if unfinished:
        yield unfinished


def _output(process: subprocess.Popen[bytes], stdout: int) -> Iterator[bytes]:
    remaining = _LAST_OUTPUT
    while remaining > 0:
        ended = process.poll() is not None  # before the look at stdout, where its last output is then
        if not select.select([stdout], [], [], 0 if ended else _POLL)[0]:
            if ended:
                return
            continue
        some = os.read(stdout, 65536)
        if not some:
            return
        remaining -= len(some) if ended else 0
        yield some


def _end_what_is_left(session: int, mark: str) -> None:
    if not _PROC.is_dir():  # macOS: what has left the process group is not found
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)
        return
    began = time.monotonic()
    while (left := _left(session, mark)) and (passed := time.monotonic() - began) < _PATIENCE:
        for pid in left if passed >= _GRACE else []:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _left(session: int, mark: str) -> list[int]:
    """Return the living processes of a session, and those that carry the mark wherever they went."""
    found = []
    for each in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it ends just now
            state, _parent, _group, its_session = (each / "stat").read_bytes().rpartition(b")")[2].split()[:4]
            marked = f"{_MARK}={mark}".encode() in (each / "environ").read_bytes().split(b"\0")
            if state not in b"ZX" and (marked or int(its_session) == session):
                found.append(int(each.name))
    return found

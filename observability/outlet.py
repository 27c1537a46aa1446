"""The way of log lines out of the process: by a thread of its own, so that who does not read them stops nobody else."""

import os
import threading
from collections import deque
from typing import IO, Final

MOST_HELD: Final = 2**20
"""Bytes of lines that wait for their reader: some thousand lines. What comes on top is lost, and counted."""
PARTING: Final = 2.0
"""Seconds that the last lines have to get out when the process goes."""


class Outlet:
    """A stream of text that is never waited for.

    It writes to the file below `stream`, and not to `stream`: a thread that hangs in the one keeps nobody from flushing
    the other when the process ends.

    Args:
        stream: where lines go, in the end.
        most: bytes that may wait.
    """

    def __init__(self, stream: IO[str], most: int = MOST_HELD) -> None:
        self._file = os.dup(stream.fileno())
        self._most = most
        self._held: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._write_on, name="log-outlet", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Take whole lines, or lose them where too many wait."""
        content = text.encode(errors="backslashreplace")
        with self._changed:
            if self._bytes + len(content) > self._most:
                self._lost += text.count("\n")
                return
            self._held.append(content)
            self._bytes += len(content)
            self._changed.notify_all()

    def flush(self) -> None:
        """Nothing is kept back, and nobody waits."""

    def take_lost(self) -> int:
        """Return how many lines were lost since this was asked last, as soon as there is room to say so."""
        with self._changed:
            if self._bytes > self._most // 2:
                return 0
            lost, self._lost = self._lost, 0
            return lost

    def close(self, timeout: float = PARTING) -> None:
        """Wait until what is held has got out, but not for long."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            os.close(self._file)

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._closed)
                if not self._held:
                    return
                content = self._held[0]
            written = self._written(content)
            with self._changed:
                self._held.popleft()
                self._bytes -= len(content)
                if not written:
                    self._lost += content.count(b"\n")

    def _written(self, content: bytes) -> bool:
        """Write, for as long as it takes. False: the reader has gone, or the disk is full, which stops nobody."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            return False
        return True


def outlet_of(stream: IO[str]) -> Outlet | IO[str]:
    """Return the way to the file below a stream; the stream itself where there is none, and nothing to wait for."""
    try:
        return Outlet(stream)
    except (OSError, ValueError):
        return stream

"""A child process that answers each line on its stdin by one on its stdout: the side of the parent, and its stdout."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from subprocess import PIPE
from typing import BinaryIO, Final, Self

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

_LONGEST_LINE: Final = 65536


class ProcessLost(Exception):
    """The process cannot start, has ended, or does not keep to lines."""


class LineProcess:
    """A running child process. Its stderr is that of its parent. Use `start`; end it with `end` or `kill`."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - PIPE was asked for
        assert process.stdout is not None  # noqa: S101 - as above
        self._process = process
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)

    @classmethod
    async def start(cls, command: Sequence[str], environ: Mapping[str, str] | None = None) -> Self:
        """Start a command, with this process's environment or another one.

        Raises:
            ProcessLost: the system refuses.
        """
        try:
            return cls(await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None, env=environ))
        except OSError as error:
            raise ProcessLost(f"no process for it: {error.strerror}") from None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def send(self, line: bytes) -> None:
        """Write a line, which holds no line break.

        Raises:
            ProcessLost: it has ended.
        """
        try:
            await self._stdin.send(line + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise ProcessLost(f"its stdin is closed: {error}") from None

    async def receive(self) -> bytes:
        """Wait for a line.

        Raises:
            ProcessLost: it has ended, or writes a line without end.
        """
        try:
            return await self._lines.receive_until(b"\n", _LONGEST_LINE)
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ProcessLost("it ended without an answer; its last words are on stderr") from None
        except anyio.DelimiterNotFound as error:
            raise ProcessLost(f"its answer is not of the protocol: {error}") from None

    async def end(self, seconds: float) -> None:
        """Close its stdin, give it some time, and kill it where it has not ended by then."""
        with anyio.CancelScope(shield=True):
            await self._stdin.aclose()
            with anyio.move_on_after(seconds):
                await self._process.wait()
            await self.kill()

    async def kill(self) -> None:
        """Kill it and wait for its end."""
        with anyio.CancelScope(shield=True), suppress(ProcessLookupError):
            if self._process.returncode is None:
                self._process.kill()
            await self._process.aclose()


def private_stdout() -> BinaryIO:
    """Return this process's stdout for answers; what anything else prints, from C code too, goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers

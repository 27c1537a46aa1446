"""The scorer for handouts that only their own code can answer: a worker process, asked one row at a time.

Slower by a factor of a thousand than `OnnxScorer`, and labelled so (`engine` is `reference`). The process is
`reference.py`; it is restarted when it dies.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import Final, NamedTuple, Self

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from calsvc.handout.form import check_handout, fingerprint
from calsvc.http.errors import BundleError, ScoringError
from calsvc.http.schema import Workout
from calsvc.model.bundle import ARTEFACT, Bundle, Engine
from calsvc.model.reference import Reply, Request

_LONGEST_REPLY: Final = 65536


class Patience(NamedTuple):
    """How long the worker may take (seconds) and how often it may die before a record is given up."""

    start: float = 60.0
    row: float = 10.0
    attempts: int = 3
    pause: float = 0.5
    """before the second restart; doubled for each one after it"""
    rest: float = 5.0
    """after giving up: records are refused at once instead of queueing for another round of restarts"""


class _WorkerLost(Exception):
    """The process ended, could not start, or gave no answer in time."""


class ReferenceScorer:
    """Owns one worker process. Concurrent calls take turns. Use `open`; close with `aclose`."""

    engine: Final[Engine] = "reference"

    def __init__(self, command: list[str], patience: Patience) -> None:
        self._command = command
        self._patience = patience
        self._turn = anyio.Lock()
        self._process: Process | None = None
        self._replies: BufferedByteReceiveStream | None = None
        self._asked = 0
        self._resting_until = 0.0

    @classmethod
    async def open(cls, bundle: Bundle, handout: Path, patience: Patience = Patience()) -> Self:  # noqa: B008 - immutable
        """Start the worker for a bundle of the engine reference and wait until it can answer.

        Raises:
            HandoutError: the handout's folder is missing or incomplete.
            BundleError: it is another handout than the bundle was made from, or the worker cannot start.
        """
        check_handout(handout)
        if fingerprint(handout) != bundle.manifest.handout_sha256:
            raise BundleError(f"the bundle at {bundle.folder} was made from another handout than {handout}; just train")
        arguments = ["--handout", os.path.abspath(handout), "--artefact", str(bundle.folder / ARTEFACT)]  # noqa: ASYNC240,PTH100
        scorer = cls([sys.executable, "-B", "-m", "calsvc.model.reference", *arguments], patience)
        try:
            await scorer._start()
        except _WorkerLost as error:
            raise BundleError(f"the worker for the handout's own code cannot start: {error}") from None
        return scorer

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None while there is none."""
        return None if self._process is None else self._process.pid

    async def score(self, workout: Workout) -> float:
        """Return kcal for one workout as the handout's own predict gives it.

        Raises:
            ScoringError: it gives no finite number, takes too long, or the worker keeps dying.
        """
        async with self._turn:
            if anyio.current_time() < self._resting_until:
                raise ScoringError("the worker for the handout's own code keeps dying; trying again in a few seconds")
            reason = ""
            for attempt in range(self._patience.attempts):
                if attempt > 1:
                    await anyio.sleep(self._patience.pause * 2 ** (attempt - 2))
                try:
                    return await self._exchange(workout)
                except _WorkerLost as error:
                    reason = str(error)
            self._resting_until = anyio.current_time() + self._patience.rest
        raise ScoringError(f"the worker for the handout's own code died {self._patience.attempts} times: {reason}")

    async def aclose(self) -> None:
        """Let the worker end with its stdin; kill it when it does not within two seconds."""
        with anyio.CancelScope(shield=True):
            if self._process is not None and self._process.stdin is not None:
                await self._process.stdin.aclose()
                with anyio.move_on_after(2):
                    await self._process.wait()
            await self._discard()

    async def _exchange(self, workout: Workout) -> float:
        if self._process is None:
            await self._start()
        self._asked += 1
        try:
            with anyio.fail_after(self._patience.row):
                await self._send(Request(self._asked, workout))
                reply = await self._receive()
                # A caller that was cancelled while waiting left its reply in the pipe.
                while reply.n < self._asked:
                    reply = await self._receive()
        except TimeoutError:
            await self._discard()
            raise ScoringError(f"the handout's own predict took longer than {self._patience.row:g} s") from None
        except _WorkerLost:
            await self._discard()
            raise
        if isinstance(reply.kcal, float):
            return reply.kcal
        raise ScoringError(str(reply.error))

    async def _start(self) -> None:
        try:
            self._process = await anyio.open_process(self._command, stdin=PIPE, stdout=PIPE, stderr=None)
        except OSError as error:
            raise _WorkerLost(f"no process for it: {error.strerror}") from None
        assert self._process.stdout is not None  # noqa: S101 - PIPE was asked for
        self._replies = BufferedByteReceiveStream(self._process.stdout)
        try:
            with anyio.fail_after(self._patience.start):
                reply = await self._receive()
        except TimeoutError:
            await self._discard()
            raise _WorkerLost(f"not ready within {self._patience.start:g} s") from None
        except BaseException:
            await self._discard()
            raise
        if not reply.ready:
            await self._discard()
            raise _WorkerLost(reply.error)

    async def _send(self, request: Request) -> None:
        assert self._process is not None  # noqa: S101 - a worker was started before
        assert self._process.stdin is not None  # noqa: S101 - PIPE was asked for
        try:
            await self._process.stdin.send(msgspec.json.encode(request) + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise _WorkerLost(f"its stdin is closed: {error}") from None

    async def _receive(self) -> Reply:
        assert self._replies is not None  # noqa: S101 - a worker was started before
        try:
            line = await self._replies.receive_until(b"\n", _LONGEST_REPLY)
            return msgspec.json.decode(line, type=Reply)
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise _WorkerLost("it ended without an answer; its last words are on stderr") from None
        except (anyio.DelimiterNotFound, msgspec.DecodeError) as error:
            raise _WorkerLost(f"its answer is not of the protocol: {error}") from None

    async def _discard(self) -> None:
        """Kill the worker, where there is one, and wait for its end."""
        process, self._process, self._replies = self._process, None, None
        if process is not None:
            with anyio.CancelScope(shield=True), suppress(ProcessLookupError):
                if process.returncode is None:
                    process.kill()
                await process.aclose()

"""The scorer for handouts that only their own code can answer: a worker process, asked one row at a time.

Slower by a factor of a thousand than `OnnxScorer`, and labelled so (`engine` is `reference`). The process is
`reference.py`; it is restarted when it dies.
"""

import os
import sys
from pathlib import Path
from typing import Final, NamedTuple, Self

import anyio
import msgspec

from calsvc.handout.form import check_handout, fingerprint
from calsvc.http.errors import BundleError, ScoringError
from calsvc.http.schema import Workout
from calsvc.model.bundle import ARTEFACT, Bundle, Engine
from calsvc.model.line_process import LineProcess, ProcessLost
from calsvc.model.reference import Reply, Request


class Patience(NamedTuple):
    """How long the worker may take (seconds) and how often it may die before a record is given up."""

    start: float = 60.0
    row: float = 10.0
    attempts: int = 3
    pause: float = 0.5
    """before the second restart; doubled for each one after it"""
    rest: float = 5.0
    """after giving up: records are refused at once instead of queueing for another round of restarts"""


class ReferenceScorer:
    """Owns one worker process. Concurrent calls take turns. Use `open`; close with `aclose`."""

    engine: Final[Engine] = "reference"

    def __init__(self, command: list[str], patience: Patience) -> None:
        self._command = command
        self._patience = patience
        self._turn = anyio.Lock()
        self._process: LineProcess | None = None
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
        except ProcessLost as error:
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
                except ProcessLost as error:
                    reason = str(error)
            self._resting_until = anyio.current_time() + self._patience.rest
        raise ScoringError(f"the worker for the handout's own code died {self._patience.attempts} times: {reason}")

    async def aclose(self) -> None:
        """Let the worker end with its stdin; kill it when it does not within two seconds."""
        process, self._process = self._process, None
        if process is not None:
            await process.end(2)

    async def _exchange(self, workout: Workout) -> float:
        process = self._process or await self._start()
        self._asked += 1
        try:
            with anyio.fail_after(self._patience.row):
                await process.send(msgspec.json.encode(Request(self._asked, workout)))
                reply = await _reply(process)
                # A caller that was cancelled while waiting left its reply in the pipe.
                while reply.n < self._asked:
                    reply = await _reply(process)
        except TimeoutError:
            await self._discard()
            raise ScoringError(f"the handout's own predict took longer than {self._patience.row:g} s") from None
        except ProcessLost:
            await self._discard()
            raise
        if isinstance(reply.kcal, float):
            return reply.kcal
        raise ScoringError(str(reply.error))

    async def _start(self) -> LineProcess:
        self._process = process = await LineProcess.start(self._command)
        try:
            with anyio.fail_after(self._patience.start):
                reply = await _reply(process)
        except TimeoutError:
            await self._discard()
            raise ProcessLost(f"not ready within {self._patience.start:g} s") from None
        except BaseException:
            await self._discard()
            raise
        if not reply.ready:
            await self._discard()
            raise ProcessLost(str(reply.error))
        return process

    async def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.kill()


async def _reply(process: LineProcess) -> Reply:
    try:
        return msgspec.json.decode(await process.receive(), type=Reply)
    except msgspec.DecodeError as error:
        raise ProcessLost(f"its answer is not of the protocol: {error}") from None

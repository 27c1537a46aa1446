"""Writes what a store learns into its journal: soon, together, and in nobody's way.

Requests only add facts; a thread writes what has come meanwhile. Where the disk refuses, they go on, and the journal
catches up later.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import anyio
from anyio import to_thread

from calsvc.feedback.facts import Fact
from observability.events import tell
from observability.signals import STORE_BACK, STORE_DEGRADED
from sqlitefile import Damaged, FileError

WRITE_INTERVAL: Final = 0.025
"""Seconds that a fact waits for others to be written with: about what a killed process loses."""
RETRY_INTERVAL: Final = 0.5
"""Seconds until a disk that has refused is tried again."""
MOST_FACTS: Final = 200_000
"""Facts that wait for a disk at most; past it, all that is known is written once it is back."""


class Target(Protocol):
    """Where facts are written to. Each method may raise `FileError`; see `Journal`."""

    @property
    def path(self) -> Path:
        """The file."""

    def append(self, facts: Sequence[Fact]) -> None:
        """Write more facts."""

    def replace(self, facts: Sequence[Fact]) -> None:
        """Write these and no others."""

    def probe(self) -> None:
        """See whether it can be written to."""

    def close(self) -> None:
        """Close it."""


class Writer:
    """Writes facts while `run` runs.

    Args:
        target: where to.
        everything: returns all that is known, for a file that lacks some of it.
    """

    def __init__(self, target: Target, everything: Callable[[], list[Fact]]) -> None:
        self.degraded = False
        """Whether the disk refuses."""
        self.lock = anyio.Lock()
        """Held while the file is written to."""
        self._target = target
        self._everything = everything
        self._facts: list[Fact] = []
        self._changed = anyio.Event()
        self._incomplete = False
        """Whether the file has to be written anew: it lacks more than `_facts`, or holds too much."""

    @property
    def complete(self) -> bool:
        """Whether all is written, and nothing is being written."""
        return not (self._facts or self._incomplete or self.lock.locked())

    def add(self, fact: Fact) -> None:
        """Write a fact soon."""
        if not self._facts:
            self._changed.set()
        self._facts.append(fact)

    def renew(self) -> None:
        """Write everything anew soon."""
        self._incomplete = True
        self._changed.set()

    async def run(self) -> None:
        """Write what has come, until cancelled."""
        while True:
            await self._changed.wait()
            await anyio.sleep(RETRY_INTERVAL if self.degraded else WRITE_INTERVAL)
            await self.save()

    async def aclose(self) -> bool:
        """Write what is left, and close the file; return whether that was possible."""
        await self.save()
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._target.close)
        return self.complete

    async def save(self) -> None:
        """Write what has come, or everything."""
        async with self.lock:
            if self._facts or self._incomplete:
                await self._save()

    async def _save(self) -> None:
        facts: list[Fact] = []
        renewed = self._incomplete
        try:
            if renewed and self.degraded:
                await self._in_thread(self._target.probe)  # gathering everything takes a while
            facts, self._facts, self._changed = self._facts, [], anyio.Event()
            self._incomplete = False
            if renewed:
                await self._in_thread(self._target.replace, self._everything())
            else:
                await self._in_thread(self._target.append, facts)
        except FileError as error:
            self._incomplete |= renewed
            self._refused(facts, error)
        else:
            if self.degraded:
                self.degraded = False
                tell(STORE_BACK, {"store": str(self._target.path)})

    @staticmethod
    async def _in_thread(write: Callable[..., None], *facts: list[Fact]) -> None:
        with anyio.CancelScope(shield=True):  # what is half written is written to its end
            await to_thread.run_sync(write, *facts)

    def _refused(self, facts: list[Fact], error: FileError) -> None:
        """Keep what could not be written for the next time, or know that it has to be everything."""
        if isinstance(error, Damaged) or self._incomplete or len(facts) + len(self._facts) > MOST_FACTS:
            self._incomplete = True
            self._facts.clear()
        else:
            self._facts[:0] = facts
        self._changed.set()
        if not self.degraded:
            self.degraded = True
            tell(STORE_DEGRADED, {"store": str(self._target.path), "error.message": str(error)})

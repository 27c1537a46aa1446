"""What a replica could not tell the shared store, or not for certain: in its memory, and a moment later in a file."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from calsvc.feedback.facts import Fact, Prediction
from calsvc.feedback.spool import Spool

WRITE_INTERVAL: Final = 0.025
"""Seconds that a fact waits for others to be written with: about what a replica loses that is killed meanwhile."""
RETRY_INTERVAL: Final = 0.5
"""Seconds until a disk that has refused is tried again."""


class Held:
    """Facts, the oldest first.

    Args:
        most: how many are kept; past it, the oldest go.
        spool: their file.
    """

    def __init__(self, most: int, spool: Spool) -> None:
        self.overflowed = 0
        """Predictions that went."""
        self._most = most
        self._spool = spool
        self._facts: deque[Fact] = deque()
        self._under_way: list[Fact] = []
        self._unwritten: list[Fact] = []
        self._changed = anyio.Event()
        self._told = True
        """Whether nothing is held, so that nothing needs to be in the file."""
        self._incomplete = False
        """Whether the file lacks more than `_unwritten`."""

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def predictions(self) -> int:
        """How many of them are predictions."""
        return sum(isinstance(each, Prediction) for each in self._facts)

    @property
    def file(self) -> Path:
        """Where they are written to."""
        return self._spool.path

    @property
    def elsewhere(self) -> bool:
        """Whether other replicas that share the disk hold something, or did, and it was not told yet."""
        return self._spool.has_others

    async def restore(self) -> None:
        """Hold what replicas held that are gone, too.

        Raises:
            OSError: there are files that cannot be read.
        """
        if found := await to_thread.run_sync(self._spool.take_over):
            self._facts.extend(found)
            self._told = False

    def add(self, fact: Fact) -> None:
        """Hold a fact."""
        self._facts.append(fact)
        self._unwritten.append(fact)
        if len(self._facts) > self._most:
            self.overflowed += isinstance(self._facts.popleft(), Prediction)
        if self._told or len(self._unwritten) == 1:
            self._told = False
            self._changed.set()

    async def give(self, most: int, give: Callable[[Sequence[Fact]], Awaitable[None]]) -> None:
        """Give away the oldest; where that fails, they are held as before."""
        self._under_way = [self._facts.popleft() for _ in range(min(most, len(self._facts)))]
        try:
            await give(self._under_way)
        except BaseException:
            self._facts.extendleft(reversed(self._under_way))
            raise
        finally:
            self._under_way = []

    def told(self) -> list[bytes]:
        """Know that nothing is held any more; return the names of the replicas that are gone and had held some."""
        self._told = True
        self._changed.set()
        return [name.encode() for name in self._spool.predecessors]

    async def run(self) -> None:
        """Keep the file as it should be."""
        while True:
            await self._changed.wait()
            await anyio.sleep(RETRY_INTERVAL if self._incomplete else WRITE_INTERVAL)
            await self._save()

    async def aclose(self) -> bool:
        """Leave all that is held to whoever comes next; return whether that is possible."""
        self._told = not self._facts
        self._incomplete = True  # so that the file holds these alone
        await self._save()
        await to_thread.run_sync(self._spool.close)
        return not self._incomplete

    async def _save(self) -> None:
        self._changed = anyio.Event()
        unwritten, self._unwritten = self._unwritten, []
        facts = [*self._under_way, *self._facts] if self._incomplete or self._grown else None
        with anyio.CancelScope(shield=True):  # what is half written is written to its end
            try:
                if self._told:
                    await to_thread.run_sync(self._spool.clear)
                elif facts is not None:
                    await to_thread.run_sync(self._spool.rewrite, facts)
                else:
                    await to_thread.run_sync(self._spool.write, unwritten)
            except OSError:
                self._incomplete = True
                self._changed.set()
            else:
                self._incomplete = False

    @property
    def _grown(self) -> bool:
        return self._spool.facts > 2 * self._most

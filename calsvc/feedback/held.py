"""What a replica could not tell the shared store, or not for certain: in its memory, and a moment later in a file.

Each replica has a file of its own, locked as long as the replica lives. Who starts takes over the files whose replicas
are gone. Telling a fact twice does no harm, so a file goes only when all of it has been told.
"""

import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread

from calsvc.feedback.facts import Fact, Prediction
from calsvc.feedback.journal import Journal, Keep
from calsvc.feedback.writer import Writer
from sqlitefile import FileError, InUse


class Place(NamedTuple):
    """Where files lie and what they are called.

    Args:
        folder: of all replicas that share a disk.
        store: what tells the server from others: what was held for one is nothing to another.
        keep: what a file keeps.
    """

    folder: Path
    store: str
    keep: Keep

    @property
    def pattern(self) -> str:
        """What files are called, with a * for the replica; another format has another name."""
        return f"{zlib.crc32(self.store.encode()):08x}-*.held2"


class HeldFiles:
    """The file of one replica, and those that it took over. Every method blocks, and may raise `FileError`.

    Args:
        place: where.
        instance: the replica's name, without a hyphen or a dot.
    """

    def __init__(self, place: Place, instance: str) -> None:
        self.path = place.folder / place.pattern.replace("*", instance)
        self._place = place
        self._own: Journal | None = None
        self._others: dict[Path, Journal] = {}

    @property
    def predecessors(self) -> list[str]:
        """Names of the replicas whose files were taken over."""
        return sorted(path.stem.split("-")[1] for path in self._others)

    @property
    def has_others(self) -> bool:
        """Whether there are files of other replicas, alive or gone; one that was taken over is until it is told."""
        return any(path != self.path for path in self._place.folder.glob(self._place.pattern))

    def take_over(self, found: list[Fact]) -> None:
        """Add to `found` what replicas held that are gone, in this replica's time. Their files stay until all is told.

        Raises:
            FileError: there are files that cannot be read; what the others hold was found all the same.
        """
        failed: FileError | None = None
        for path in sorted(set(self._place.folder.glob(self._place.pattern)) - {self.path, *self._others}):
            journal = Journal(path, self._place.keep)
            try:
                journal.open()
            except InUse:
                continue
            except FileError as error:
                if path.exists():  # else its replica has told it meanwhile
                    failed = error
                continue
            if facts := list(journal.facts()):
                self._others[path] = journal
                found += facts
            else:  # perhaps its replica has just told it, and is there
                journal.remove()
        if failed is not None:
            raise failed

    def append(self, facts: Sequence[Fact]) -> None:
        """See `Journal.append`."""
        self._begun().append(facts)

    def replace(self, facts: Sequence[Fact]) -> None:
        """Write these facts, which are all that is held, and remove the files that were taken over; all, if none is."""
        if facts:
            self._begun().replace(facts)
        elif self._own is not None:
            self._own.remove()
            self._own = None
        for path in list(self._others):
            self._others.pop(path).remove()

    def probe(self) -> None:
        """Nothing: it takes no time to gather what is held."""

    def close(self) -> None:
        """Leave the files to whoever comes next."""
        for journal in (*self._others.values(), *((self._own,) if self._own else ())):
            journal.close()
        self._own = None
        self._others.clear()

    def _begun(self) -> Journal:
        if self._own is None:
            own = Journal(self.path, self._place.keep)
            own.open()
            self._own = own
        return self._own


class Held:
    """Facts, the oldest first.

    Args:
        most: how many are kept; past it, the oldest go.
        files: where they are written to.
    """

    def __init__(self, most: int, files: HeldFiles) -> None:
        self.overflowed = 0
        """Predictions that went."""
        self._most = most
        self._files = files
        self._facts: deque[Fact] = deque()
        self._under_way: list[Fact] = []
        self._writer = Writer(files, lambda: [*self._under_way, *self._facts])
        self.run = self._writer.run

    def __len__(self) -> int:
        return len(self._facts)

    @property
    def predictions(self) -> int:
        """How many of them are predictions."""
        return sum(isinstance(each, Prediction) for each in self._facts)

    @property
    def file(self) -> Path:
        """Where they are written to."""
        return self._files.path

    @property
    def elsewhere(self) -> bool:
        """Whether other replicas that share the disk hold something, or did, and it was not told yet."""
        return self._files.has_others

    async def restore(self) -> None:
        """Hold what replicas held that are gone, too.

        Raises:
            FileError: there are files that cannot be read.
        """
        found: list[Fact] = []
        async with self._writer.lock:  # what is written meanwhile would not have what is found
            try:
                await to_thread.run_sync(self._files.take_over, found)
            finally:
                self._facts.extend(found)

    def add(self, fact: Fact) -> None:
        """Hold a fact."""
        self._facts.append(fact)
        self._writer.add(fact)
        if len(self._facts) > self._most:
            self.overflowed += isinstance(self._facts.popleft(), Prediction)

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
        self._writer.renew()
        return [name.encode() for name in self._files.predecessors]

    async def aclose(self) -> bool:
        """Leave all that is held to whoever comes next; return whether that is possible."""
        self._writer.renew()  # so that the file holds these alone
        return await self._writer.aclose()

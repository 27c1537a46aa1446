"""A file of what a replica holds for a shared store that is out of reach: so that it outlives the replica.

Each replica appends to a file of its own, locked as long as the replica lives. Who starts takes over the files whose
replicas are gone. Telling a fact twice does no harm, so a file goes only when all of it has been told. Blocks.
"""

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from calsvc.feedback.facts import Beside, Claim, Fact, Prediction
from calsvc.feedback.journal import Moment

KINDS: Final[dict[str, type[Fact]]] = {"prediction": Prediction, "beside": Beside, "claim": Claim}
NAMES: Final[dict[type, str]] = {kind: name for name, kind in KINDS.items()}
_HEADER: Final = struct.Struct(">II")
"""Of a frame: bytes of its content, and their CRC-32."""


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """What was written in one go; times of the facts are the writer's monotonic clock, of which `moment` is one."""

    moment: Moment
    facts: list[tuple[str, list[Any]]]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Frame).decode


class Place(NamedTuple):
    """Where files lie and what they are called.

    Args:
        folder: of all replicas that share a disk.
        store: what tells the server from others: what was held for one is nothing to another.
        now: both clocks.
    """

    folder: Path
    store: str
    now: Callable[[], Moment]

    @property
    def pattern(self) -> str:
        """What files are called, with a * for the replica and a number; another format has another name."""
        return f"{zlib.crc32(self.store.encode()):08x}-*.held1"


class Spool:
    """The file of one replica, and those that it took over. Every method may raise `OSError`.

    Args:
        place: where.
        instance: the replica's name, without a hyphen.
    """

    def __init__(self, place: Place, instance: str) -> None:
        self.facts = 0
        """How many have been written to the file of this replica."""
        self._place = place
        self._instance = instance
        self._current: Path | None = None
        self._files: dict[Path, BinaryIO] = {}

    @property
    def path(self) -> Path:
        """The file of this replica, or the one that it would write to."""
        return self._current or self._named(0)

    @property
    def predecessors(self) -> list[str]:
        """Names of the replicas whose files were taken over."""
        return sorted({_owner(path) for path in self._files} - {self._instance})

    @property
    def has_others(self) -> bool:
        """Whether there are files of other replicas, alive or gone; one that was taken over is until it is told."""
        return any(_owner(path) != self._instance for path in self._place.folder.glob(self._place.pattern))

    def take_over(self) -> list[Fact]:
        """Return what replicas held that are gone, in this replica's time. Their files stay until `clear`."""
        found: list[Fact] = []
        for path in sorted(set(self._place.folder.glob(self._place.pattern)) - self._files.keys()):
            with suppress(FileNotFoundError):  # who had it has just come back
                file = path.open("rb")
                if not _locked(file):
                    file.close()
                    continue
                self._files[path] = file
                found += _facts(file.read(), self._place.now())
        return found

    def write(self, facts: Sequence[Fact]) -> None:
        """Append facts: from here on they are there, whatever happens to this process."""
        if self._current is None:
            self._current = self._begun()
        elif not self._in_place(self._current):
            raise FileNotFoundError(f"{self._current} was taken away")
        self._append(self._current, facts)
        self.facts += len(facts)

    def rewrite(self, facts: Sequence[Fact]) -> None:
        """Write a new file of these facts, which are all that there are; the others go when it is complete."""
        new = self._begun()
        self._append(new, facts)
        for path in self._files.keys() - {new}:
            self._remove(path)
        self._current, self.facts = new, len(facts)

    def clear(self) -> None:
        """Remove the files: all that they hold was told."""
        for path in list(self._files):
            self._remove(path)
        self._current, self.facts = None, 0

    def close(self) -> None:
        """Leave the files to whoever comes next."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _named(self, number: int) -> Path:
        return self._place.folder / self._place.pattern.replace("*", f"{self._instance}-{number}")

    def _begun(self) -> Path:
        """Return a new file, open and locked."""
        path = next(name for number in count() if (name := self._named(number)) not in self._files)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files[path] = file = path.open("wb", buffering=0)
        _locked(file)
        return path

    def _append(self, path: Path, facts: Sequence[Fact]) -> None:
        content = _framed(facts, self._place.now())
        if self._files[path].write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _in_place(self, path: Path) -> bool:
        """Whether a file lies where it was opened: what was deleted goes on taking what nobody will find."""
        with suppress(FileNotFoundError):
            return path.stat().st_ino == os.fstat(self._files[path].fileno()).st_ino
        return False

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._files.pop(path).close()


def _owner(path: Path) -> str:
    """Return the name of the replica that a file is of."""
    return path.name.split("-")[1]


def _locked(file: BinaryIO) -> bool:
    """Lock a file for as long as it is open here; False where somebody has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _framed(facts: Sequence[Fact], moment: Moment) -> bytes:
    content = _encode(_Frame(moment, [(NAMES[type(each)], list(each)) for each in facts]))
    return _HEADER.pack(len(content), zlib.crc32(content)) + content


def _facts(content: bytes, now: Moment) -> Iterator[Fact]:
    """Yield the facts of all frames up to the first that is not what was written, in the reader's time."""
    at = 0
    while len(header := content[at : at + _HEADER.size]) == _HEADER.size:
        length, checksum = _HEADER.unpack(header)
        framed = content[at + _HEADER.size : at + _HEADER.size + length]
        if len(framed) < length or zlib.crc32(framed) != checksum:
            return
        frame = _decode(framed)
        for name, values in frame.facts:
            yield _later(msgspec.convert(values, KINDS[name]), frame.moment.seen_from(now) - frame.moment.monotonic)
        at += _HEADER.size + length


def _later(fact: Fact, seconds: float) -> Fact:
    """Return a fact in the time of another clock."""
    if isinstance(fact, Prediction):
        return fact._replace(made_at=fact.made_at + seconds)
    return fact._replace(came_at=fact.came_at + seconds) if isinstance(fact, Claim) else fact

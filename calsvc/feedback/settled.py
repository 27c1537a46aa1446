"""Truths that were joined, kept to tell the same truth that comes again from another one."""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from calsvc.feedback.records import RecordId

SLICES: Final = 64
"""Slices of the retention: few enough to look an id up in each, many enough to be near the retention's end."""
MOST_IN_A_SLICE: Final = 4096
"""Truths that are sorted in one go: a millisecond."""


class _Closed(NamedTuple):
    """The truths of a stretch of time, which are forgotten together, in the order of their keys: 16 bytes each."""

    begun: float
    keys: "array[int]"
    truths: "array[float]"

    def get(self, key: int) -> float | None:
        """Return the truth of a key."""
        at = bisect_left(self.keys, key)
        return self.truths[at] if at < len(self.keys) and self.keys[at] == key else None


class SettledTruths:
    """Truths by record id, for `retention` seconds and at most a 64th longer, at most about `most` of them.

    An hour of them is what grows most in a busy service. So they are two numbers each, without an object: a dictionary
    would take seven times as much. Whoever looks one up has sent a truth twice, which is rare, and may take a while.
    """

    def __init__(self, retention: float, most: int) -> None:
        self._retention = retention
        self._most = most
        self._closed: deque[_Closed] = deque()  # the oldest first
        self._open: dict[int, float] = {}
        self._begun = 0.0
        self._count = 0

    def add(self, record_id: RecordId, true_kcal: float, now: float) -> None:
        """Keep a truth; it stands in front of an earlier one of the same id."""
        if len(self._open) >= MOST_IN_A_SLICE or (self._open and now - self._begun >= self._retention / SLICES):
            self._close()
        if not self._open:
            self._begun = now
        # A number is its own key, which is not worth a call.
        self._open[record_id if record_id.__class__ is int else key_of(record_id)] = true_kcal
        if self._count + len(self._open) > self._most and self._closed:
            self._forget_oldest()

    def get(self, record_id: RecordId, now: float) -> float | None:
        """Return the truth that stands, in kcal."""
        self.sweep(now)
        key = key_of(record_id)
        if (true_kcal := self._open.get(key)) is not None:
            return true_kcal
        return next((found for each in reversed(self._closed) if (found := each.get(key)) is not None), None)

    def sweep(self, now: float) -> None:
        """Forget what is past its retention."""
        longest = self._retention * (1 + 1 / SLICES)
        while self._closed and now - self._closed[0].begun > longest:
            self._forget_oldest()
        if self._open and now - self._begun > longest:
            self._open = {}

    def items(self) -> Iterator[tuple[int, float, float]]:
        """Yield each truth with its key, which is as good as its id, and about when it came, the oldest first."""
        for begun, keys, truths in self._closed:
            yield from ((key, true_kcal, begun) for key, true_kcal in zip(keys, truths, strict=True))
        yield from ((key, true_kcal, self._begun) for key, true_kcal in self._open.items())

    def _close(self) -> None:
        ordered = sorted(self._open.items())
        keys, truths = zip(*ordered, strict=True)
        self._closed.append(_Closed(self._begun, array("q", keys), array("d", truths)))
        self._count += len(ordered)
        self._open = {}

    def _forget_oldest(self) -> None:
        self._count -= len(self._closed.popleft().keys)


def key_of(record_id: RecordId) -> int:
    """Return a number of 64 bits for an id: itself, or what a text has in common with one other in 10^19."""
    if isinstance(record_id, int):
        return record_id
    return int.from_bytes(blake2b(record_id.encode(), digest_size=8).digest(), signed=True)

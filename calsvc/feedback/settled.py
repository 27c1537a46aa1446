"""Truths that were joined, kept to tell the same truth that comes again from another one."""

import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from calsvc.feedback.records import RecordId

SLICES: Final = 64
"""Slices of the retention: few enough to look an id up in each, many enough to free memory soon after its end."""
MOST_IN_A_SLICE: Final = 4096
"""Truths that are sorted in one go: a millisecond."""


_Truth = tuple[float, float]
"""Kilocalories, and when it was joined."""


class _Closed(NamedTuple):
    """The truths of a stretch of time, which are freed together, in the order of their keys: 24 bytes each."""

    newest: float
    """When the last of them was joined."""
    keys: "array[int]"
    kcal: "array[float]"
    joined_at: "array[float]"

    def get(self, key: int) -> _Truth | None:
        """Return the truth of a key."""
        at = bisect_left(self.keys, key)
        return self._at(at) if at < len(self.keys) and self.keys[at] == key else None

    def items(self) -> Iterator[tuple[int, _Truth]]:
        """Return each key with its truth."""
        return ((key, self._at(at)) for at, key in enumerate(self.keys))

    def _at(self, at: int) -> _Truth:
        return self.kcal[at], self.joined_at[at]


def _joined_at(item: tuple[int, _Truth]) -> float:
    return item[1][1]


class SettledTruths:
    """Truths by record id, each for exactly `retention` seconds, at most about `most` of them.

    An hour of them is what grows most in a busy service. So they are three numbers each, without an object: a
    dictionary would take five times as much. A lookup may take a while: it happens only when a truth is sent twice.
    Memory is freed a slice at a time, up to a 64th of the retention later.
    """

    def __init__(self, retention: float, most: int) -> None:
        self._retention = retention
        self._most = most
        self._closed: deque[_Closed] = deque()  # the oldest first
        self._open: dict[int, _Truth] = {}
        self._begun = 0.0
        self._newest = -math.inf
        self._count = 0

    def add(self, record_id: RecordId, true_kcal: float, now: float) -> None:
        """Keep a truth; it replaces an earlier one of the same id."""
        if len(self._open) >= MOST_IN_A_SLICE or (self._open and now - self._begun >= self._retention / SLICES):
            self._close()
        if not self._open:
            self._begun = now
        if now > self._newest:  # noqa: PLR1730 - max() would be one more call for each truth
            self._newest = now
        # A number is its own key, which is not worth a call.
        self._open[record_id if record_id.__class__ is int else key_of(record_id)] = true_kcal, now
        if self._count + len(self._open) > self._most and self._closed:
            self._forget_oldest()

    def get(self, record_id: RecordId, now: float) -> float | None:
        """Return the truth that stands, in kcal."""
        key = key_of(record_id)
        truth = self._open.get(key)
        if truth is None:  # the latest one counts: if it has expired, all earlier ones have
            truth = next((found for each in reversed(self._closed) if (found := each.get(key)) is not None), None)
        if truth is None:
            return None
        kcal, joined_at = truth
        return kcal if now - joined_at <= self._retention else None

    def sweep(self, now: float) -> None:
        """Free what is past its retention."""
        while self._closed and now - self._closed[0].newest > self._retention:
            self._forget_oldest()
        if self._open and now - self._newest > self._retention:
            self._open = {}

    def items(self) -> Iterator[tuple[int, float, float]]:
        """Yield each truth with its key, which can be used as its id, and when it was joined; the oldest first."""
        for slice_ in (*(each.items() for each in self._closed), self._open.items()):
            for key, (kcal, joined_at) in sorted(slice_, key=_joined_at):
                yield key, kcal, joined_at

    def _close(self) -> None:
        keys = sorted(self._open)
        kcal, joined_at = (array("d", column) for column in zip(*(self._open[key] for key in keys), strict=True))
        self._closed.append(_Closed(self._newest, array("q", keys), kcal, joined_at))
        self._count += len(keys)
        self._open = {}

    def _forget_oldest(self) -> None:
        self._count -= len(self._closed.popleft().keys)


def key_of(record_id: RecordId) -> int:
    """Return a number of 64 bits for an id: itself, or what a text has in common with one other in 10^19."""
    if isinstance(record_id, int):
        return record_id
    return int.from_bytes(blake2b(record_id.encode(), digest_size=8).digest(), signed=True)

"""Truths that were joined, kept to tell the same truth that comes again from another one."""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from calsvc.feedback.records import RecordId

SLICES: Final = 256
"""Slices of the retention: few enough to look an id up in each, many enough to be near the retention's end."""


class _Slice(NamedTuple):
    """The truths of a stretch of time, which are forgotten together."""

    begun: float
    truths: dict[RecordId, float]


class SettledTruths:
    """Truths by record id, for `retention` seconds and at most a 256th longer, at most about `most` of them.

    An hour of them is what grows most in a busy service: one dictionary slot and one number each, no object and no
    time of its own. That is why the time is the slice's.
    """

    def __init__(self, retention: float, most: int) -> None:
        self._retention = retention
        self._most = most
        self._slices: deque[_Slice] = deque()  # the oldest first
        self._count = 0

    def add(self, record_id: RecordId, true_kcal: float, now: float) -> None:
        """Keep a truth; it stands in front of an earlier one of the same id."""
        if not self._slices or now - self._slices[-1].begun >= self._retention / SLICES:
            self._slices.append(_Slice(now, {}))
        self._slices[-1].truths[record_id] = true_kcal
        self._count += 1
        if self._count > self._most and len(self._slices) > 1:
            self._forget_oldest()

    def get(self, record_id: RecordId, now: float) -> float | None:
        """Return the truth that stands, in kcal."""
        self.sweep(now)
        for each in reversed(self._slices):
            if (true_kcal := each.truths.get(record_id)) is not None:
                return true_kcal
        return None

    def sweep(self, now: float) -> None:
        """Forget what is past its retention."""
        longest = self._retention * (1 + 1 / SLICES)
        while self._slices and now - self._slices[0].begun > longest:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self._count -= len(self._slices.popleft().truths)

    def items(self) -> Iterator[tuple[RecordId, float, float]]:
        """Yield each truth with its id and about when it came, the oldest first; one that came again stands twice."""
        for begun, truths in self._slices:
            for record_id, true_kcal in truths.items():
                yield record_id, true_kcal, begun

"""What waits and what is settled, each prediction joined exactly once. No clock: any that never runs back will do.

A prediction waits for `retention` seconds, which is much longer than the age at which its label is due: were it
forgotten at that age, matching would be a race. What is joined is remembered equally long, to tell a truth that
comes again from another truth.
"""

import math
from collections import OrderedDict
from typing import Final

from msgspec import structs

from calsvc.feedback.records import Joined, RecordId, Remembered, Shadow, StoreStatistics
from calsvc.feedback.settled import SettledTruths
from calsvc.http.errors import TruthConflict, UnknownId

SWEEP_PER_CALL: Final = 2
"""Expired entries removed by each call: more than one call can add, so the backlog shrinks; few enough to be O(1)."""


class Ledger:
    """The state of a store that lives in one process.

    Args:
        retention: seconds a prediction waits, and a joined one is remembered.
        max_pending: predictions that wait at once; the oldest goes first.
    """

    def __init__(self, retention: float, max_pending: int) -> None:
        self._retention = retention
        self._max_pending = max_pending
        # In the order of time, so that the oldest is always at the front. OrderedDict and not dict, because finding the
        # first key of a dict walks over the holes that its removed keys left.
        self._pending: OrderedDict[RecordId, Remembered] = OrderedDict()
        self._settled = SettledTruths(retention, max_pending)
        self._expired = 0
        self._overflowed = 0
        self._next_expiry = -math.inf
        """Nothing is past its retention before this time."""

    def remember(self, record_id: RecordId, prediction: Remembered) -> float | None:
        """Let a prediction wait; see `JoinStore.remember`."""
        self.sweep(prediction.made_at, SWEEP_PER_CALL)
        replaced = self._pending.pop(record_id, None)  # what is predicted again goes to the end of the order
        self._pending[record_id] = prediction
        if len(self._pending) > self._max_pending:
            self._pending.popitem(last=False)
            self._overflowed += 1
        if replaced is None:
            return None
        if prediction.made_at - replaced.made_at > self._retention:
            self._expired += 1
            return None
        return replaced.made_at

    def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """Put a shadow beside the prediction made at `made_at`; False where that one does not wait any more."""
        prediction = self._pending.get(record_id)
        if prediction is None or prediction.made_at != made_at:
            return False
        self.shadow(record_id, shadow)
        return True

    def shadow(self, record_id: RecordId, shadow: Shadow) -> None:
        """Put a shadow beside whatever prediction of this id waits, if one does."""
        if (prediction := self._pending.get(record_id)) is not None:
            self._pending[record_id] = structs.replace(prediction, shadow=shadow)  # keeps its place in time

    def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """Join a truth with its prediction; see `JoinStore.join`."""
        self.sweep(now, SWEEP_PER_CALL)
        prediction = self._pending.get(record_id)
        if prediction is not None and now - prediction.made_at <= self._retention:
            self.settle(record_id, true_kcal, now)
            return Joined("matched", prediction)
        settled = self._settled.get(record_id, now)
        if settled is None:
            raise UnknownId(f"no prediction of id {record_id!r} waits for its truth")
        if settled != true_kcal:
            raise TruthConflict(f"id {record_id!r} has the truth {settled:g} kcal already, which stays")
        return Joined("duplicate", None)

    def settle(self, record_id: RecordId, true_kcal: float, now: float) -> None:
        """Let a truth stand, and its prediction wait no more."""
        self._pending.pop(record_id, None)
        self._settled.add(record_id, true_kcal, now)

    def sweep(self, now: float, limit: int) -> None:
        """Forget up to `limit` entries that are past their retention."""
        self._settled.sweep(now)
        if now <= self._next_expiry:
            return
        for _ in range(limit):
            if not self._pending or now - next(iter(self._pending.values())).made_at <= self._retention:
                break
            self._pending.popitem(last=False)
            self._expired += 1
        oldest = next(iter(self._pending.values())).made_at if self._pending else now
        self._next_expiry = oldest + self._retention

    def waiting(self) -> list[tuple[RecordId, Remembered]]:
        """Return all predictions that wait, the oldest first."""
        return list(self._pending.items())

    def settled(self) -> list[tuple[RecordId, float, float]]:
        """Return the joined truths, each with the time it was joined, the oldest first."""
        return list(self._settled.items())

    def statistics(self) -> StoreStatistics:
        """Return the sizes and losses."""
        return StoreStatistics(len(self._pending), self._expired, self._overflowed)

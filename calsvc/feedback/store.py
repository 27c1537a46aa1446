"""Predictions that wait for their truth, each joined exactly once. Time is an argument: any clock that never runs back.

A prediction waits for `retention` seconds, which is much longer than the age at which its label is due: were it
forgotten at that age, matching would be a race. What is joined is remembered equally long, to tell a truth that
comes again from another truth.
"""

import math
from collections import OrderedDict
from typing import Final, Literal, NamedTuple, Protocol

from msgspec import Struct, structs

from calsvc.errors import TruthConflict, UnknownId
from calsvc.feedback.quality import Series
from calsvc.feedback.settled import RecordId, SettledTruths

SWEEP_PER_CALL: Final = 2
"""Expired entries removed by each call: more than one call can add, so the backlog shrinks; few enough to be O(1)."""


class SpanRef(NamedTuple):
    """The span that made a prediction, for the feedback's span to link to."""

    trace_id: int
    span_id: int


class Shadow(Struct, frozen=True, gc=False):
    """What the challenger said of a record that the champion answered."""

    kcal: float
    series: Series


class Remembered(Struct, frozen=True, gc=False):
    """A prediction that was answered: kcal, when (seconds of the store's clock), by whom, in which span."""

    kcal: float
    made_at: float
    series: Series
    span: SpanRef | None = None
    shadow: Shadow | None = None


class Joined(NamedTuple):
    """What a feedback did: `matched` charges `prediction`, `duplicate` says that this truth stood already (None)."""

    status: Literal["matched", "duplicate"]
    prediction: Remembered | None


class StoreStatistics(NamedTuple):
    """How full the store is, and what it has let go since the start: too old, or too many."""

    pending: int
    expired: int
    overflowed: int


class JoinStore(Protocol):
    """The seam between the endpoints and whatever remembers predictions."""

    async def remember(self, record_id: RecordId, prediction: Remembered) -> None:
        """Let a prediction wait for its truth; an earlier one of the same id is replaced and forgotten."""

    async def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """Put a shadow beside the prediction made at `made_at`; False where that one does not wait any more."""

    async def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """Join a truth with its prediction.

        Raises:
            UnknownId: no prediction of this id waits or has been joined within the retention time.
            TruthConflict: another truth stands already, and stays.
        """

    def statistics(self) -> StoreStatistics:
        """Return the sizes and losses."""

    def sweep(self, now: float, limit: int) -> None:
        """Forget up to `limit` entries that are past their retention."""


class MemoryStore:
    """A `JoinStore` in this process's memory, for one replica.

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

    async def remember(self, record_id: RecordId, prediction: Remembered) -> None:
        """See `JoinStore.remember`."""
        self.sweep(prediction.made_at, SWEEP_PER_CALL)
        self._pending.pop(record_id, None)  # what is predicted again goes to the end of the order
        self._pending[record_id] = prediction
        if len(self._pending) > self._max_pending:
            self._pending.popitem(last=False)
            self._overflowed += 1

    async def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """See `JoinStore.attach`."""
        prediction = self._pending.get(record_id)
        if prediction is None or prediction.made_at != made_at:
            return False
        self._pending[record_id] = structs.replace(prediction, shadow=shadow)  # keeps its place in the order of time
        return True

    async def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """See `JoinStore.join`."""
        self.sweep(now, SWEEP_PER_CALL)
        prediction = self._pending.get(record_id)
        if prediction is not None and now - prediction.made_at <= self._retention:
            return self._settle(record_id, prediction, true_kcal, now)
        settled = self._settled.get(record_id, now)
        if settled is None:
            raise UnknownId(f"no prediction of id {record_id!r} waits for its truth")
        if settled != true_kcal:
            raise TruthConflict(f"id {record_id!r} has the truth {settled:g} kcal already, which stays")
        return Joined("duplicate", None)

    def _settle(self, record_id: RecordId, prediction: Remembered, true_kcal: float, now: float) -> Joined:
        del self._pending[record_id]
        self._settled.add(record_id, true_kcal, now)
        return Joined("matched", prediction)

    def sweep(self, now: float, limit: int) -> None:
        """See `JoinStore.sweep`."""
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

    def statistics(self) -> StoreStatistics:
        """See `JoinStore.statistics`."""
        return StoreStatistics(len(self._pending), self._expired, self._overflowed)

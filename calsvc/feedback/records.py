"""What is kept of a prediction until its truth comes, and what the truth did to it."""

from typing import Literal, NamedTuple, Self

from msgspec import Struct

from calsvc.feedback.quality import Series

RecordId = int | str


class SpanRef(NamedTuple):
    """The span that made a prediction, for the feedback's span to link to."""

    trace_id: int
    span_id: int

    @property
    def packed(self) -> bytes:
        """Both ids in 24 bytes."""
        return self.trace_id.to_bytes(16) + self.span_id.to_bytes(8)

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """Read what `packed` wrote."""
        return cls(int.from_bytes(packed[:16]), int.from_bytes(packed[16:]))


class Shadow(Struct, frozen=True, gc=False):
    """What the challenger said of a record that the champion answered."""

    kcal: float
    series: Series


class Remembered(Struct, frozen=True, gc=False):
    """A prediction that was answered: kcal, when (seconds of this process's clock), by whom, in which span."""

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

"""What a store learns: kept in its journal, and told to the server that all replicas share as a call of calls.lua.

Times are seconds of this process's clock. Ages go over the wire: the clocks of replicas have nothing in common.
"""

import struct
from typing import Any, Final, NamedTuple, Self

import msgspec
from msgspec import Struct, structs

from calsvc.feedback.quality import Series
from calsvc.feedback.records import RecordId, Remembered, Shadow, SpanRef

NOTHING: Final = b""


class Call(NamedTuple):
    """One call: the record's key, then the call's name and its five arguments."""

    key: bytes
    arguments: tuple[bytes | int, ...]


class _Answer(Struct, frozen=True, array_like=True, gc=False):
    """What other replicas have to know of a prediction, or of a shadow."""

    kcal: float
    series: Series
    span: bytes | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Answer).decode


class Prediction(Struct, frozen=True, array_like=True, tag="prediction", gc=False):
    """A prediction is to wait. `nonce`: of this prediction alone, among all of its record; `span`: `SpanRef.packed`."""

    id: RecordId
    made_at: float
    kcal: float
    series: Series
    span: bytes | None = None
    nonce: bytes = NOTHING

    @classmethod
    def of(cls, record_id: RecordId, prediction: Remembered, nonce: bytes = NOTHING) -> Self:
        """Return it as it is to be kept; a shadow is another fact."""
        span = prediction.span and prediction.span.packed
        return cls(record_id, prediction.made_at, prediction.kcal, prediction.series, span, nonce)

    @property
    def remembered(self) -> Remembered:
        """What was kept."""
        return Remembered(self.kcal, self.made_at, self.series, SpanRef.unpacked(self.span) if self.span else None)

    def later(self, seconds: float) -> Self:
        """Return the same by a clock that is so much ahead."""
        return structs.replace(self, made_at=self.made_at + seconds)

    def call(self, now: float, *, again: bool = False) -> Call:
        """Return the call; `again` where a later prediction of the record may have been told already."""
        answer = _encode(_Answer(self.kcal, self.series, self.span))
        made = _ms(now - self.made_at)
        return Call(key_of(self.id), (b"remember", self.nonce, made, answer, int(again), NOTHING))


class Beside(Struct, frozen=True, array_like=True, tag="beside", gc=False):
    """The challenger's answer is to wait with the prediction."""

    id: RecordId
    kcal: float
    series: Series
    nonce: bytes = NOTHING

    def later(self, seconds: float) -> Self:  # noqa: ARG002 - as the others
        """Return the same: it has no time of its own."""
        return self

    def call(self, now: float, *, again: bool = False) -> Call:  # noqa: ARG002 - as the others
        """Return the call."""
        shadow = _encode(_Answer(self.kcal, self.series))
        return Call(key_of(self.id), (b"attach", self.nonce, shadow, NOTHING, NOTHING, NOTHING))


class Claim(Struct, frozen=True, array_like=True, tag="claim", gc=False):
    """A truth came. `claim`: of this feedback alone, where it asks the server for its prediction."""

    id: RecordId
    true_kcal: float
    came_at: float
    claim: bytes = NOTHING

    @property
    def truth(self) -> bytes:
        """Equal for equal numbers, 0 and -0 among them."""
        return repr(self.true_kcal + 0.0).encode()

    def later(self, seconds: float) -> Self:
        """Return the same by a clock that is so much ahead."""
        return structs.replace(self, came_at=self.came_at + seconds)

    def call(self, now: float, *, again: bool = False) -> Call:  # noqa: ARG002 - as the others
        """Return the call."""
        return Call(key_of(self.id), (b"join", self.truth, self.claim, NOTHING, NOTHING, NOTHING))


class Settlement(NamedTuple):
    """A truth stands."""

    id: RecordId
    nonce: bytes
    made_at: float
    settled_at: float
    truth: bytes

    def call(self, now: float, *, again: bool = False) -> Call:  # noqa: ARG002 - as the others
        """Return the call."""
        made, settled = _ms(now - self.made_at), _ms(now - self.settled_at)
        return Call(key_of(self.id), (b"settle", self.nonce, made, settled, self.truth, NOTHING))


Fact = Prediction | Beside | Claim
"""What journals keep."""


def key_of(record_id: RecordId) -> bytes:
    """Return the key of a record; a number and its text are two."""
    return b"calsvc:i:%d" % record_id if isinstance(record_id, int) else b"calsvc:s:" + record_id.encode()


def nonce_of(instance: bytes, made_at: float) -> bytes:
    """Return what tells a prediction from all others of its record: by whom, and when."""
    return instance + struct.pack(">d", made_at)


def made_at_of(nonce: bytes, instance: bytes) -> float | None:
    """Return when this replica made the prediction of a nonce; None where another one did."""
    made_at: float
    if not nonce.startswith(instance):
        return None
    (made_at,) = struct.unpack(">d", nonce[len(instance) :])
    return made_at


class Matched(NamedTuple):
    """What the server says of a truth that found its prediction."""

    prediction: Remembered
    nonce: bytes

    @classmethod
    def read(cls, reply: list[Any], now: float, came_at: float) -> Self:
        """Read a reply: `matched`, age in ms, answer, shadow, nonce. No prediction is younger than its truth."""
        _, age, answer, shadow, nonce = reply
        told, beside = _decode(answer), _decode(shadow) if shadow else None
        prediction = Remembered(
            told.kcal,
            min(came_at, now - max(0, age) / 1e3),
            told.series,
            SpanRef.unpacked(told.span) if told.span else None,
            Shadow(beside.kcal, beside.series) if beside else None,
        )
        return cls(prediction, nonce)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1e3))

"""What a replica tells the server that all replicas share, each as the call of calls.lua that tells it.

Ages and not times go over the wire: the clocks of replicas have nothing in common.
"""

import struct
from typing import Any, Final, NamedTuple, Self

import msgspec

from calsvc.feedback.quality import Series
from calsvc.feedback.records import RecordId, Remembered, Shadow, SpanRef

NOTHING: Final = b""


class Call(NamedTuple):
    """One call: the record's key, then the call's name and its five arguments."""

    key: bytes
    arguments: tuple[bytes | int, ...]


class Prediction(NamedTuple):
    """A prediction is to wait. `nonce`: of this prediction alone, among all of its record."""

    key: bytes
    nonce: bytes
    made_at: float
    answer: bytes

    def call(self, now: float, *, again: bool = False) -> Call:
        """Return the call; `again` where a later prediction of the record may have been told already."""
        return Call(self.key, (b"remember", self.nonce, _ms(now - self.made_at), self.answer, int(again), NOTHING))


class Beside(NamedTuple):
    """The challenger's answer is to wait with the prediction."""

    key: bytes
    nonce: bytes
    shadow: bytes

    def call(self, now: float, *, again: bool = False) -> Call:  # noqa: ARG002 - as the others
        """Return the call."""
        return Call(self.key, (b"attach", self.nonce, self.shadow, NOTHING, NOTHING, NOTHING))


class Claim(NamedTuple):
    """A truth came, and asks for its prediction. `claim`: of this feedback alone."""

    key: bytes
    claim: bytes
    true_kcal: float
    came_at: float

    @property
    def truth(self) -> bytes:
        """Equal for equal numbers, 0 and -0 among them."""
        return repr(self.true_kcal + 0.0).encode()

    def call(self, now: float, *, again: bool = False) -> Call:  # noqa: ARG002 - as the others
        """Return the call."""
        return Call(self.key, (b"join", self.truth, self.claim, NOTHING, NOTHING, NOTHING))


class Settlement(NamedTuple):
    """A truth stands."""

    key: bytes
    nonce: bytes
    made_at: float
    settled_at: float
    truth: bytes

    def call(self, now: float, *, again: bool = False) -> Call:  # noqa: ARG002 - as the others
        """Return the call."""
        made, settled = _ms(now - self.made_at), _ms(now - self.settled_at)
        return Call(self.key, (b"settle", self.nonce, made, settled, self.truth, NOTHING))


Fact = Prediction | Beside | Claim | Settlement


def key_of(record_id: RecordId) -> bytes:
    """Return the key of a record; a number and its text are two."""
    return b"calsvc:i:%d" % record_id if isinstance(record_id, int) else b"calsvc:s:" + record_id.encode()


def nonce_of(instance: bytes, made_at: float) -> bytes:
    """Return what tells a prediction from all others of its record: by whom, and when."""
    return instance + struct.pack(">d", made_at)


class _Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    kcal: float
    series: tuple[str, str]
    span: bytes | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Answer).decode


def packed_answer(prediction: Remembered) -> bytes:
    """Return what other replicas have to know of a prediction."""
    return _encode(_Answer(prediction.kcal, prediction.series, prediction.span and prediction.span.packed))


def packed_shadow(shadow: Shadow) -> bytes:
    """Return what other replicas have to know of a shadow."""
    return _encode(_Answer(shadow.kcal, shadow.series))


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
            Series(*told.series),
            SpanRef.unpacked(told.span) if told.span else None,
            Shadow(beside.kcal, Series(*beside.series)) if beside else None,
        )
        return cls(prediction, nonce)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1e3))

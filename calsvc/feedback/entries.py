"""What a journal holds: entries of what a ledger was told, made of it and played back to another one."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from calsvc.feedback.ledger import Ledger
from calsvc.feedback.quality import Series
from calsvc.feedback.records import RecordId, Remembered, Shadow, SpanRef


class Made(Struct, frozen=True, array_like=True, tag="made", gc=False):
    """A prediction was remembered, `age` seconds before its batch was written. `span`: see `SpanRef.packed`."""

    id: RecordId
    age: float
    kcal: float
    series: tuple[str, str]
    span: bytes | None = None


class Shadowed(Struct, frozen=True, array_like=True, tag="shadowed", gc=False):
    """The prediction of an id that waits got a shadow."""

    id: RecordId
    kcal: float
    series: tuple[str, str]


class Settled(Struct, frozen=True, array_like=True, tag="settled", gc=False):
    """A truth came, `age` seconds before its batch was written."""

    id: RecordId
    age: float
    true_kcal: float


Entry = Made | Shadowed | Settled
encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(list[Entry]).decode


class Truth(NamedTuple):
    """A truth that was joined, and when it came, seconds of this process's clock."""

    kcal: float
    came_at: float


Note = tuple[RecordId, Remembered | Shadow | Truth]
"""What happened to a record, as the process has it at hand: it becomes an entry when there is time for it."""


def entries_of(notes: Iterable[Note], now: float) -> list[Entry]:
    """Return notes as entries of a batch that is written at `now`."""
    return [_entry(record_id, what, now) for record_id, what in notes]


def _entry(record_id: RecordId, what: Remembered | Shadow | Truth, now: float) -> Entry:
    if isinstance(what, Remembered):
        return Made(record_id, now - what.made_at, what.kcal, what.series, what.span and what.span.packed)
    if isinstance(what, Shadow):
        return Shadowed(record_id, what.kcal, what.series)
    return Settled(record_id, now - what.came_at, what.kcal)


def notes_of(ledger: Ledger) -> list[Note]:
    """Return notes of all that a ledger knows: what it needs to know it again."""
    waiting = ledger.waiting()
    shadows = [(record_id, each.shadow) for record_id, each in waiting if each.shadow is not None]
    truths = [(record_id, Truth(true_kcal, came_at)) for record_id, true_kcal, came_at in ledger.settled()]
    return [*truths, *waiting, *shadows]


def replay(entries: Sequence[Entry], at: float, ledger: Ledger, horizon: float) -> None:
    """Tell a ledger what another one was told.

    Args:
        entries: of one batch.
        at: when it was written, seconds of this process's clock.
        ledger: what has been told all the batches before.
        horizon: what happened before this moment is past its retention.
    """
    for each in entries:
        if isinstance(each, Made):
            if (made_at := at - each.age) >= horizon:
                span = SpanRef.unpacked(each.span) if each.span else None
                ledger.remember(each.id, Remembered(each.kcal, made_at, Series(*each.series), span))
        elif isinstance(each, Shadowed):
            ledger.shadow(each.id, Shadow(each.kcal, Series(*each.series)))
        elif (came_at := at - each.age) >= horizon:
            ledger.settle(each.id, each.true_kcal, came_at)

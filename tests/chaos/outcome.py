"""What is promised of a fault, and what came of it."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct


class Impossible(Exception):
    """The fault cannot be made on this machine: what is missing."""


class Promise(NamedTuple):
    """What is promised: in words, and in numbers. None: nothing of the kind is."""

    text: str
    lost: int | None = 0
    """Acknowledged predictions whose truth finds nothing, at most."""
    failed: int | None = None
    """Predictions that are not acknowledged, retries included, at most."""
    unrecorded: int = 0
    """Truths that were counted and not recorded, at most: on their way when the simulator was killed for good."""


class Counts(Struct, frozen=True):
    """What the generator knows, and what the services have counted."""

    acknowledged: int
    failed: Mapping[str, int]
    """Predictions without an answer, by cause."""
    joined: int
    """Acknowledged predictions whose truth was matched."""
    statuses: Mapping[str, int]
    """What became of truths."""
    met: int
    """Truths that found a prediction, those of predictions whose answer was lost among them."""
    owed: int
    counted: int
    """Truths matched, by the counters of all processes, in each of their lives."""
    silence: float
    """The longest time without an acknowledged prediction, seconds."""

    @property
    def lost(self) -> int:
        """Acknowledged predictions that have no truth."""
        return self.acknowledged - self.joined

    @property
    def twice(self) -> int:
        """Truths that were counted more than once. What a killed process counted last is not known: at least."""
        return max(0, self.counted - self.met)


class Seen(Struct, frozen=True):
    """One fault."""

    fault: str
    promise: str
    counts: Counts
    remarks: list[str]
    """What else was seen."""
    broken: list[str]
    """What was promised and did not hold."""


def broken(promise: Promise, counts: Counts) -> list[str]:
    """Say what of a promise did not hold."""
    found = []
    failed = sum(counts.failed.values())
    if promise.lost is not None and counts.lost > promise.lost:
        found.append(f"{counts.lost} predictions lost their truth, promised were at most {promise.lost}")
    if promise.failed is not None and failed > promise.failed:
        found.append(f"{failed} predictions failed, promised were at most {promise.failed}")
    if counts.twice > promise.unrecorded:
        found.append(f"{counts.twice} truths were counted twice")
    if counts.owed:
        found.append(f"{counts.owed} truths could not be delivered")
    if not counts.acknowledged:
        found.append("nothing was acknowledged at all")
    return found

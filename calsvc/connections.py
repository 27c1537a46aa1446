"""The connections of one process: how many there may be, whose time is up, and who goes when there is no room."""

import heapq
from collections.abc import Callable
from typing import Final, Protocol

from calsvc.stay import Stay
from observability.events import tell
from observability.signals import CONNECTIONS_CUT

HARMLESS: Final = ("client", "idle")
"""Reasons for which connections are closed all day: nothing to write home about."""
REASONS: Final = (*HARMLESS, "slow", "unread", "unfinished", "malformed", "evicted", "refused")
TOLD_EVERY: Final = 10.0
"""Seconds between two lines about connections that were cut, however many there are."""
LOOKED_FOR: Final = 64
"""Connections to go that one look at all of them finds, so that under a flood of new ones not each is a look."""


class Connection(Protocol):
    """One of them, as seen from here."""

    stay: Stay

    @property
    def busy(self) -> bool:
        """Whether a whole request of it is being worked on."""

    def look_after(self, now: float) -> None:
        """Close it where its time is up."""

    def drop(self, reason: str) -> None:
        """Close it without a word, at once."""


class Connections:
    """All that are open, oldest first.

    One sweep a round looks at all of them, instead of a timer for each request: `now` is the time of the last one, and
    what a connection remembers is as old.

    Args:
        limit: how many there may be.
        clock: seconds, monotonic.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit = limit
        self.now = clock()
        self.parting = False
        """Whether each is closed with its next answer: who comes again connects anew, perhaps to another replica."""
        self.closed = dict.fromkeys(REASONS, 0)
        """How many were closed since the start, by reason."""
        self._clock = clock
        self._open: dict[Connection, None] = {}
        self._to_go: list[Connection] = []
        self._told = (self.now, dict(self.closed))

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Take one in, in place of the one that has waited longest where it must be; False: all are worked on."""
        while len(self._open) >= self.limit and self._make_room():
            pass
        room = len(self._open) < self.limit
        self._open[connection] = None
        return room

    def leave(self, connection: Connection, reason: str) -> None:
        """Count one out, by the reason that is told first."""
        if self._open.pop(connection, False) is None:
            self.closed[reason] += 1

    def sweep(self) -> None:
        """Look at all of them, and say now and then how many were cut."""
        self.now = self._clock()
        for connection in tuple(self._open):
            connection.look_after(self.now)
        if self.now - self._told[0] >= TOLD_EVERY:
            self._tell()

    def _make_room(self) -> bool:
        """Drop the one that has waited longest for its client."""
        while True:
            while self._to_go:
                oldest = self._to_go.pop()
                if oldest in self._open and not oldest.busy:
                    oldest.drop("evicted")
                    return True
            waiting = (each for each in self._open if not each.busy)
            self._to_go = heapq.nsmallest(LOOKED_FOR, waiting, key=lambda each: each.stay.since)[::-1]
            if not self._to_go:
                return False

    def _tell(self) -> None:
        told_at, before = self._told
        cut = {reason: count - before[reason] for reason, count in self.closed.items() if reason not in HARMLESS}
        reasons = {reason: count for reason, count in cut.items() if count}
        if reasons:
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            seconds = round(self.now - told_at, 1)
            tell(CONNECTIONS_CUT, {"connections": sum(reasons.values()), "seconds": seconds, "reasons": listed})
        self._told = (self.now, dict(self.closed))

"""How long a connection may stay: idle, with half a request, with an answer that nobody reads, or parting."""

from dataclasses import dataclass
from typing import Final, Literal

UNREAD: Final = 30.0
"""Seconds after which a client that takes nothing of what waits for it is dropped, and what was held for it is free."""
KEEP_ALIVE: Final = 75.0
"""Seconds an idle connection stays open: longer than the pause between two bursts."""
SLOWEST: Final = 10.0
"""Seconds that a request may take to arrive: a record is one packet, and the largest body is 64 KiB."""
LINGER: Final = 2.0
"""Seconds for which a client whose request was answered before its end is listened to, so that it can read why."""

Verdict = Literal["unread", "parted", "slow", "idle"]


@dataclass(slots=True)
class Stay:
    """Times of one connection, as old as the last sweep; None where a state does not apply."""

    since: float
    """When it was opened, or last answered: bytes alone do not make it younger."""
    begun: float | None = None
    """When the request began of which a part is here."""
    unread: float | None = None
    parting: float | None = None
    """Since when it is only listened to, or waits for its last answer to leave."""
    reason: str = "client"
    """Why it will have been closed."""

    def answered(self, now: float) -> None:
        """Begin anew; that the next request is not whole yet was not its client's doing, since nobody read on."""
        self.since = now
        if self.begun is not None:
            self.begun = now

    def over(self, now: float, waiting: int) -> Verdict | None:
        """Return why the stay is over; None where it is not. `waiting`: requests that are being worked on."""
        if self.unread is not None and now - self.unread > UNREAD:
            return "unread"
        if self.parting is not None:
            return "parted" if now - self.parting > LINGER else None
        if waiting:
            return None
        if self.begun is not None:
            return "slow" if now - self.begun > SLOWEST else None
        return "idle" if now - self.since > KEEP_ALIVE else None

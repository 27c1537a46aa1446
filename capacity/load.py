"""What arrives: bursts or a steady stream of records, and the truth of each one that was taken, later. Pure."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`rps` records a second for `on` seconds, then `off` seconds of silence, over and over for `lasts` seconds.

    Two calls are made for a record: its prediction, and `truth_after` seconds later its truth (None: none).

    Raises:
        ValueError: what cannot be a load.
    """

    name: str
    rps: float
    on: float = 5.0
    off: float = 0.0
    lasts: float = 300.0
    truth_after: float | None = 5.0

    def __post_init__(self) -> None:
        if not (self.rps > 0 and self.on > 0 and self.lasts > 0 and math.isfinite(self.rps * self.lasts)):
            raise ValueError(f"{self.name}: rate and lengths must be above 0")
        if self.off < 0 or (self.truth_after or 0.0) < 0:
            raise ValueError(f"{self.name}: a silence and a delay must be at least 0")

    def records(self, until: float) -> int:
        """Return how many records have come in the first `until` seconds."""
        at = min(max(until, 0.0), self.lasts)
        if not self.off:
            sending = at
        else:
            turns, rest = divmod(at, self.on + self.off)
            sending = turns * self.on + min(rest, self.on)
        # Rounded first: 0.1 * 3 at 10 a second is 3 records, although the product is below it.
        return math.floor(round(self.rps * sending, 6))

    @property
    def ends(self) -> float:
        """Seconds until the last truth has come, if all goes well."""
        return self.lasts + (self.truth_after or 0.0)

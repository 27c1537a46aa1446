"""How long a call takes, estimated: it waits for what the limit holds back, for the calls before it, and for its own.

An estimate of the time inside a replica. Network, proxy and client come on top; docs/simulator.md has what they add on
one machine.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

MEDIAN: Final = 0.5
NINETY_NINE: Final = 0.99


class Group(NamedTuple):
    """Calls of one replica in one step that had to wait: the first of them so long, the last so long, seconds."""

    calls: int
    first: float
    last: float


def quantile(groups: Sequence[Group], calls: int, share: float) -> float:
    """Return the wait that `share` of `calls` do not exceed; those in no group did not wait. Seconds.

    Within a group waits are spread evenly from that of its first call to that of its last.
    """
    waits = sorted(
        (group.first + (group.last - group.first) * part, group.calls / 4)
        for group in groups
        for part in (0.125, 0.375, 0.625, 0.875)
    )
    left = calls * (1.0 - share)
    for wait, weight in reversed(waits):
        left -= weight
        if left <= 0:
            return wait
    return 0.0


def behind_others(busy: float, cost: float, share: float) -> float:
    """Return how long a call waits for those that came just before it, seconds, at a quantile.

    Calls come at random and each takes `cost` of a core that is `busy` so much of the time (M/D/1). The mean wait is
    busy * cost / (2 * (1 - busy)) (Pollaczek and Khinchine); that it is longer than t is taken to have the probability
    busy * exp(-2 * (1 - busy) * t / cost), which has the same mean.
    """
    if busy <= 1.0 - share:
        return 0.0
    steady = min(busy, 0.999)
    return cost / (2 * (1 - steady)) * math.log(steady / (1.0 - share))

"""One replica: what it can do within its CPU limit, how long one waits in it, and what it refuses."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

STEP: Final = 0.1
"""Seconds of a step: the period in which Linux hands out a CPU limit, 50 ms in every 100 ms for half a core."""


class Cost(NamedTuple):
    """CPU seconds that a call takes at so many calls a second; between two points on a straight line.

    A call costs less the more come together: many are read and written in one turn of the event loop.
    """

    points: tuple[tuple[float, float], ...]

    def at(self, rate: float) -> float:
        """Return the seconds of one call."""
        rates = [each for each, _ in self.points]
        index = bisect.bisect_left(rates, rate)
        if index == 0:
            return self.points[0][1]
        if index == len(rates):
            return self.points[-1][1]
        (left, before), (right, after) = self.points[index - 1 : index + 1]
        return before + (after - before) * (rate - left) / (right - left)

    @property
    def least(self) -> float:
        """What a call costs where there is always another one waiting."""
        return min(cost for _, cost in self.points)


class Replica(NamedTuple):
    """What every replica is. Cores, seconds, requests."""

    cost: Cost
    limit: float = 0.5
    request: float = 0.5
    in_flight: int = 256
    """`CALSVC_MAX_IN_FLIGHT`"""
    start_cpu: float = 0.5
    """CPU seconds from the start of the process to the first answer."""
    before_start: float = 2.0
    """Until the process starts: scheduling, sandbox, container; the image is on the node."""
    probe: float = 2.0
    """From being ready to being sent requests: half a probe's period, and the news of it to every node."""
    drain: float = 8.0
    """A preStop of 3 s and `CALSVC_DRAIN_DELAY`: it goes on answering while the news of its going spreads."""
    unlisted: float = 1.0
    """Until that news has arrived and it is sent no more requests."""

    @property
    def starts_in(self) -> float:
        """Seconds from the decision to the first request; the start itself is slowed by the limit."""
        return self.before_start + self.start_cpu / self.limit + self.probe

    @property
    def most(self) -> float:
        """Calls a second that it answers at its limit."""
        return self.limit / self.cost.least


class Served(NamedTuple):
    """One step of a replica: calls answered and refused, and how long those waited that came first and last."""

    answered: int
    refused: int
    first: float
    last: float


@dataclass(slots=True)
class Running:
    """A replica that runs. `waiting`: calls taken and not answered; `used`: CPU seconds since its start.

    `durations`: seconds that all its calls together have been in it; `refused`: calls.
    """

    number: int
    started: float
    ready_at: float
    weight: float = 1.0
    waiting: int = 0
    used: float = 0.0
    durations: float = 0.0
    refused: int = 0
    gone_at: float = math.inf
    unlisted_at: float = math.inf
    _left: float = 0.0

    def idle_until(self, kind: Replica) -> None:
        """Spend a step on the start alone."""
        self.used = min(self.used + kind.limit * STEP, kind.start_cpu)

    def rest(self) -> None:
        """Spend a step on nothing: time that was not used is not kept."""
        self._left = 0.0

    def serve(self, arrivals: int, kind: Replica) -> Served:
        """Spend a step on calls.

        What does not fit into the queue is refused; what does not fit into the limit waits. CPU time that nobody needs
        is not kept for later, but a call that was begun is: nothing is lost between two steps.
        """
        before = self.waiting
        if not arrivals and not before:
            self.rest()
            return Served(0, 0, 0.0, 0.0)
        cost = kind.cost.at((before + arrivals) / STEP)
        budget = kind.limit * STEP + self._left
        can = int(budget / cost + 1e-9)
        taken = min(arrivals, can + kind.in_flight - before)
        answered = min(before + taken, can)
        self.waiting = before + taken - answered
        self._left = budget - answered * cost if self.waiting else 0.0
        self.used += answered * cost
        self.refused += arrivals - taken
        self.durations += answered * cost + (before + self.waiting) / 2 * STEP
        wait = cost / kind.limit
        # Whoever finds the limit used up waits for the next period first, and then for those before it.
        held = max(0.0, 1.0 - kind.limit) * STEP if self.waiting else 0.0
        return Served(answered, arrivals - taken, before * wait, self.waiting * wait + held)


def shared(calls: int, weights: Sequence[float], turn: int) -> list[int]:
    """Divide calls among replicas by weight, whole numbers that add up; who gets what is left over goes round."""
    total = sum(weights)
    shares = [int(calls * weight / total) for weight in weights]
    for extra in range(calls - sum(shares)):
        shares[(turn + extra) % len(shares)] += 1
    return shares

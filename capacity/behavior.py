"""What of a recommendation is done, and when: stabilisation windows and policies, `spec.behavior` of an autoscaler.

Documented on kubernetes.io, *Horizontal Pod Autoscaling*, section *Configurable scaling behavior*; in detail this is
`stabilizeRecommendationWithBehaviors`, `calculateScaleUpLimitWithScalingRules` and
`calculateScaleDownLimitWithBehaviors` of pkg/controller/podautoscaler/horizontal.go.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple


class Policy(NamedTuple):
    """At most `value` pods, or percent of them, within `period` seconds."""

    kind: Literal["Pods", "Percent"]
    value: int
    period: float


class Rules(NamedTuple):
    """One direction. `window`: seconds of recommendations, of which the safest counts. `select`: among policies."""

    policies: tuple[Policy, ...]
    window: float = 0.0
    select: Literal["Max", "Min", "Disabled"] = "Max"


UP: Final = Rules((Policy("Percent", 100, 15), Policy("Pods", 4, 15)))
"""What holds where `scaleUp` says nothing else."""
DOWN: Final = Rules((Policy("Percent", 100, 15),), window=300.0)
"""What holds where `scaleDown` says nothing else."""


class Bounds(NamedTuple):
    """`minReplicas`, `maxReplicas`, and how fast between them."""

    low: int
    high: int
    up: Rules = UP
    down: Rules = DOWN


class Change(NamedTuple):
    """At a moment: a recommendation, or how many replicas came or went."""

    at: float
    replicas: int


@dataclass(slots=True)
class Scaler:
    """Decides, and remembers what it has recommended and done."""

    bounds: Bounds
    recommended: list[Change] = field(default_factory=list)
    added: list[Change] = field(default_factory=list)
    removed: list[Change] = field(default_factory=list)

    def decide(self, current: int, recommendation: int | None, now: float) -> int:
        """Return how many replicas there shall be.

        Args:
            current: how many there shall be by now.
            recommendation: what the metrics ask for; None where they say nothing, and nothing happens.
            now: seconds, not before the last call.
        """
        if not self.recommended:
            self.recommended.append(Change(now, current))
        low, high = self.bounds.low, self.bounds.high
        if not low <= current <= high:
            return self._done(current, min(max(current, low), high), now)
        if recommendation is None:
            return current
        steady = self._steady(current, recommendation, now)
        self.recommended = _since(now - max(self.bounds.up.window, self.bounds.down.window), self.recommended)
        self.recommended.append(Change(now, recommendation))
        return self._done(current, self._limited(current, steady, now), now)

    def _steady(self, current: int, recommendation: int, now: float) -> int:
        """Return what is left of a recommendation: up as far as all recent ones go, down as far as none contradicts."""
        recent_up = _since(now - self.bounds.up.window, self.recommended)
        recent_down = _since(now - self.bounds.down.window, self.recommended)
        up = min([recommendation, *(each.replicas for each in recent_up)])
        down = max([recommendation, *(each.replicas for each in recent_down)])
        return min(max(current, up), down)

    def _limited(self, current: int, steady: int, now: float) -> int:
        if steady > current:
            return min(steady, self.bounds.high, max(current, self._highest(current, now)))
        if steady < current:
            return max(steady, self.bounds.low, min(current, self._lowest(current, now)))
        return steady

    def _highest(self, current: int, now: float) -> int:
        rules = self.bounds.up
        if rules.select == "Disabled":
            return current
        allowed = []
        for policy in rules.policies:
            start = self._at_start(current, now - policy.period)
            grown = start + policy.value if policy.kind == "Pods" else math.ceil(start * (1 + policy.value / 100))
            allowed.append(grown)
        return min(allowed) if rules.select == "Min" else max(allowed)

    def _lowest(self, current: int, now: float) -> int:
        rules = self.bounds.down
        if rules.select == "Disabled":
            return current
        allowed = []
        for policy in rules.policies:
            start = self._at_start(current, now - policy.period)
            shrunk = start - policy.value if policy.kind == "Pods" else int(start * (1 - policy.value / 100))
            allowed.append(shrunk)
        return max(allowed) if rules.select == "Min" else min(allowed)

    def _at_start(self, current: int, since: float) -> int:
        """Return how many replicas there were when a period began."""
        return current - _sum(_since(since, self.added)) + _sum(_since(since, self.removed))

    def _done(self, current: int, replicas: int, now: float) -> int:
        longest = max((policy.period for rules in self.bounds[2:] for policy in rules.policies), default=0.0)
        self.added, self.removed = _since(now - longest, self.added), _since(now - longest, self.removed)
        if replicas > current:
            self.added.append(Change(now, replicas - current))
        elif replicas < current:
            self.removed.append(Change(now, current - replicas))
        return replicas


def _since(moment: float, changes: Iterable[Change]) -> list[Change]:
    return [each for each in changes if each.at > moment]


def _sum(changes: Iterable[Change]) -> int:
    return sum(each.replicas for each in changes)

"""How many replicas the autoscaler wants, from what it knows of each pod. Pure; times in seconds of any one clock.

What it does is documented: kubernetes.io, *Horizontal Pod Autoscaling*, section *Algorithm details*. Where that page
leaves a choice, this follows the controller's source (kubernetes/kubernetes, pkg/controller/podautoscaler:
`GetResourceReplicas`, `calcPlainMetricReplicas` and `groupPods` in replica_calculator.go, the ratios in
metrics/utilization.go), whole numbers where it has whole numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Sample(NamedTuple):
    """What is known of a pod: `value` on average from `at - window` to `at`."""

    at: float
    window: float
    value: float


class Pod(NamedTuple):
    """A pod as the autoscaler sees it. `turned`: when it last became ready, or ceased to be."""

    started: float
    ready: bool
    turned: float
    sample: Sample | None = None
    pending: bool = False
    leaving: bool = False


class Patience(NamedTuple):
    """Flags of kube-controller-manager, at their defaults: tolerance, and how long new pods are not believed."""

    tolerance: float = 0.1
    """`--horizontal-pod-autoscaler-tolerance`"""
    initialization: float = 300.0
    """`--horizontal-pod-autoscaler-cpu-initialization-period`"""
    readiness: float = 30.0
    """`--horizontal-pod-autoscaler-initial-readiness-delay`"""

    def tolerates(self, ratio: float) -> bool:
        """Tell whether a ratio is too close to 1 to act on it."""
        return 1.0 - self.tolerance <= ratio <= 1.0 + self.tolerance


class Metric(Protocol):
    """What the autoscaler looks at."""

    @property
    def of_cpu(self) -> bool:
        """True where samples of pods that have just become ready are set aside."""

    @property
    def missing(self) -> float:
        """What a pod without a sample is taken to use when the others use too little."""

    def ratio(self, values: Sequence[float]) -> float:
        """Return what is used of what should be used, 1 where it is just that."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """`type: Resource`, `averageUtilization`: cores used, in percent of those that are requested (not of the limit)."""

    percent: int
    request: float
    of_cpu: bool = True

    @property
    def missing(self) -> float:
        """The whole request, or the target where that is more; the documentation speaks of the target alone."""
        return self.request * max(100, self.percent) / 100

    def ratio(self, values: Sequence[float]) -> float:
        """Return whole percents by the target, as the controller does."""
        used, requested = sum(map(_milli, values)), _milli(self.request) * len(values)
        return (used * 100 // requested) / self.percent


@dataclass(frozen=True, slots=True)
class Average:
    """`type: Pods`, `averageValue`: a number that each pod has, such as its requests in flight."""

    target: float
    of_cpu: bool = False

    @property
    def missing(self) -> float:
        """Just the target."""
        return self.target

    def ratio(self, values: Sequence[float]) -> float:
        """Return the average by the target."""
        return (sum(map(_milli, values)) // len(values)) / _milli(self.target)


def wanted(current: int, pods: Sequence[Pod], metric: Metric, now: float, patience: Patience) -> int | None:
    """Return the number of replicas that a metric asks for; None where no pod has a sample that counts.

    Args:
        current: replicas that the Deployment has been told to have.
        pods: those that there are, each with its sample of this metric.
        metric: what is looked at.
        now: seconds.
        patience: the controller's flags.
    """
    known, unready, missing = grouped(pods, of_cpu=metric.of_cpu, now=now, patience=patience)
    if not known:
        return None
    ratio = metric.ratio(known)
    grows_past_unready = unready > 0 and ratio > 1.0
    if not grows_past_unready and not missing:
        return current if patience.tolerates(ratio) else math.ceil(ratio * len(known))
    return _cautious(current, metric, ratio, (known, unready, missing), patience)


def _cautious(
    current: int, metric: Metric, ratio: float, groups: tuple[list[float], int, int], patience: Patience
) -> int:
    """Take pods without a sample to use nothing where more are wanted, and all where fewer are."""
    known, unready, missing = groups
    assumed = list(known)
    if ratio != 1.0:
        assumed += [metric.missing if ratio < 1.0 else 0.0] * missing
    if ratio > 1.0:
        assumed += [0.0] * unready
    again = metric.ratio(assumed)
    turned_round = (ratio < 1.0 < again) or (again < 1.0 < ratio)
    if turned_round or patience.tolerates(again):
        return current
    found = math.ceil(again * len(assumed))
    against = (again < 1.0 and found > current) or (again > 1.0 and found < current)
    return current if against else found


def grouped(pods: Sequence[Pod], *, of_cpu: bool, now: float, patience: Patience) -> tuple[list[float], int, int]:
    """Return the values that count, how many pods are not ready, and how many have no sample; others are ignored."""
    known: list[float] = []
    unready = missing = 0
    for pod in pods:
        if pod.leaving:
            continue
        if pod.pending:
            unready += 1
        elif pod.sample is None:
            missing += 1
        elif of_cpu and _is_unready(pod, pod.sample, now, patience):
            unready += 1
        else:
            known.append(pod.sample.value)
    return known, unready, missing


def _is_unready(pod: Pod, sample: Sample, now: float, patience: Patience) -> bool:
    """Tell whether a pod's CPU says nothing yet: a start burns CPU that no request has asked for."""
    if pod.started + patience.initialization > now:
        return not pod.ready or sample.at < pod.turned + sample.window
    return not pod.ready and pod.started + patience.readiness > pod.turned


def _milli(value: float) -> int:
    """Return thousandths, rounded up as Kubernetes' quantities are; not for what floating point adds in the end."""
    return math.ceil(round(value * 1000, 6))

"""How many replicas are wanted: the examples of Kubernetes' documentation, and what holds for all."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.replicas import Average, Cpu, Patience, Pod, Sample, wanted

NOW = 10_000.0
PATIENCE = Patience()


def pod(value: float | None, **changes: object) -> Pod:
    """A pod that has been ready for long, and uses so much."""
    sample = None if value is None else Sample(NOW - 5, 15.0, value)
    return Pod(started=0.0, ready=True, turned=1.0, sample=sample)._replace(**changes)


def new(value: float, *, ready: bool, age: float = 60.0) -> Pod:
    """A pod that has just started; its sample is from before it was ready, or it is not."""
    return pod(value, started=NOW - age, ready=ready, turned=NOW - 10)


@pytest.mark.parametrize(
    ("used", "target", "current", "expected"),
    [
        (0.2, 0.1, 3, 6),  # documentation: 200m where 100m are wanted doubles the replicas
        (0.05, 0.1, 4, 2),  # and 50m halve them
        (0.109, 0.1, 10, 10),  # within the tolerance of 0.1
        (0.091, 0.1, 10, 10),
        (0.112, 0.1, 10, 12),  # ceil(10 * 1.12)
        (0.001, 0.1, 7, 1),  # rounded up: never to none
    ],
)
def test_the_documentations_ratio(used: float, target: float, current: int, expected: int):
    """DesiredReplicas = ceil(currentReplicas * currentMetricValue / desiredMetricValue)."""
    assert wanted(current, [pod(used)] * current, Average(target), NOW, PATIENCE) == expected


def test_fifty_replicas_at_ninety_percent_become_sixty():
    """The example of Kubernetes 1.33's announcement of configurable tolerance: 50 * (90 / 75)."""
    assert wanted(50, [pod(0.9)] * 50, Cpu(75, 1.0), NOW, PATIENCE) == 60


def test_utilisation_is_of_the_request_in_whole_percents():
    """0.2489 of 0.25 cores are 249 thousandths, rounded up, and 99 %, rounded down: all are whole numbers there."""
    metric = Cpu(100, 0.25)
    assert metric.ratio([0.2489]) == 0.99
    assert metric.ratio([0.25, 0.375]) == 1.25


def test_pods_that_are_not_ready_use_nothing_when_more_are_wanted():
    """One of three pods has just started: (0 + 500 + 700) of 3000 are 40 %, of 30 wanted, and 4 replicas, not 6."""
    pods = [new(0.3, ready=False), pod(0.5), pod(0.7)]
    assert wanted(3, pods, Cpu(30, 1.0), NOW, PATIENCE) == 4
    assert wanted(3, [pod(0.3), pod(0.5), pod(0.7)], Cpu(30, 1.0), NOW, PATIENCE) == 5


def test_a_sample_from_before_a_pod_was_ready_does_not_count():
    """A start burns CPU that no request has asked for: for five minutes a whole window has to lie behind it."""
    hot = [pod(0.3), new(1.0, ready=True)]
    assert wanted(2, hot, Cpu(30, 1.0), NOW, PATIENCE) == 2
    believed = [pod(0.3), new(1.0, ready=True, age=400.0)]
    assert wanted(2, believed, Cpu(30, 1.0), NOW, PATIENCE) == 5


def test_a_pod_that_was_ready_once_counts_though_it_is_not_now():
    """After the first five minutes a pod that fell over is still one whose load is real; one that never was is not."""
    fell = pod(0.9, started=NOW - 1000, ready=False, turned=NOW - 10)
    never = pod(0.9, started=NOW - 1000, ready=False, turned=NOW - 990)
    assert wanted(2, [pod(0.3), fell], Cpu(30, 1.0), NOW, PATIENCE) == 4
    assert wanted(2, [pod(0.3), never], Cpu(30, 1.0), NOW, PATIENCE) == 2


def test_pods_without_a_sample_hold_back_either_way():
    """Nothing when more are wanted, the whole request when fewer are."""
    assert wanted(4, [pod(0.6), pod(0.6), pod(None), pod(None)], Cpu(30, 1.0), NOW, PATIENCE) == 4
    assert wanted(4, [pod(0.9), pod(0.9), pod(None), pod(None)], Cpu(30, 1.0), NOW, PATIENCE) == 6
    assert wanted(4, [pod(0.05)] * 3 + [pod(None)], Cpu(50, 1.0), NOW, PATIENCE) == 3
    assert wanted(4, [pod(0.05)] * 3 + [pod(None)], Average(0.5), NOW, PATIENCE) == 2


def test_pods_that_leave_or_are_pending():
    """Those that leave are not there; those that are pending use nothing, and are none when fewer are wanted."""
    going, pending = pod(5.0, leaving=True), pod(None, pending=True)
    assert wanted(2, [pod(0.6), pod(0.6), going], Cpu(30, 1.0), NOW, PATIENCE) == 4
    assert wanted(3, [pod(0.6), pod(0.6), pending], Cpu(30, 1.0), NOW, PATIENCE) == 4
    assert wanted(3, [pod(0.1), pod(0.1), pending], Cpu(30, 1.0), NOW, PATIENCE) == 1


def test_without_any_sample_nothing_is_known():
    """The controller then does nothing at all."""
    assert wanted(3, [pod(None)] * 3, Cpu(30, 1.0), NOW, PATIENCE) is None
    assert wanted(3, [], Cpu(30, 1.0), NOW, PATIENCE) is None


samples = st.lists(st.floats(0, 2), min_size=1, max_size=20)


@given(samples, st.integers(10, 150))
def test_more_load_never_wants_fewer(used: list[float], percent: int):
    """Monotone: whatever all pods use more makes no fewer replicas."""
    current, metric = len(used), Cpu(percent, 0.5)
    less = wanted(current, [pod(each) for each in used], metric, NOW, PATIENCE)
    more = wanted(current, [pod(each * 1.5) for each in used], metric, NOW, PATIENCE)
    assert less is not None
    assert more is not None
    assert less <= more


@given(samples, st.integers(0, 5), st.integers(0, 5), st.integers(10, 150))
def test_what_is_not_known_never_speeds_it_up(used: list[float], missing: int, unready: int, percent: int):
    """With pods that nobody knows anything of, the change is no larger than the known ones alone would make it."""
    known, metric = [pod(each) for each in used], Cpu(percent, 0.5)
    unknown = [pod(None)] * missing + [pod(None, pending=True)] * unready
    current = len(known) + len(unknown)
    found = wanted(current, known + unknown, metric, NOW, PATIENCE)
    assert found is not None
    ratio = metric.ratio(used)
    if ratio > 1:
        assert current <= found <= max(current, math.ceil(ratio * current))
    else:
        assert found <= current

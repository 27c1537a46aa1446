"""What of a recommendation is done: the documentation's policies, and what holds for every sequence."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from capacity.behavior import DOWN, UP, Bounds, Policy, Rules, Scaler

PER_MINUTE = (Policy("Pods", 4, 60), Policy("Percent", 10, 60))


def played(scaler: Scaler, current: int, recommendations: list[int], every: float = 15.0) -> list[int]:
    """The replicas after each recommendation, which come at regular times."""
    told = []
    for number, recommendation in enumerate(recommendations):
        current = scaler.decide(current, recommendation, every * number)
        told.append(current)
    return told


def test_the_documentations_example_of_two_policies():
    """80 replicas to 10, at most 4 or 10 % a minute: 8 go, then 8 of 72 (7.2, rounded up), and 4 a time below 40."""
    scaler = Scaler(Bounds(1, 100, UP, Rules(PER_MINUTE)))
    told = played(scaler, 80, [10] * 12, every=60.0)
    assert told[:3] == [72, 64, 57]
    below = [each for each in told if each <= 40]
    assert [before - after for before, after in itertools.pairwise(below)] == [4] * (len(below) - 1)


def test_within_a_period_what_has_gone_counts():
    """Asked every 15 s, a policy of 4 a minute still lets 4 go a minute."""
    scaler = Scaler(Bounds(1, 100, UP, Rules((Policy("Pods", 4, 60),))))
    assert played(scaler, 20, [10] * 6) == [16, 16, 16, 16, 12, 12]


def test_the_smaller_change_where_that_is_selected():
    """`selectPolicy: Min`, with 5 pods or 10 % a minute: the documentation's second example."""
    rules = Rules((Policy("Percent", 10, 60), Policy("Pods", 5, 60)), select="Min")
    assert played(Scaler(Bounds(1, 200, UP, rules)), 100, [1], 60.0) == [95]
    assert played(Scaler(Bounds(1, 200, UP, rules)), 20, [1], 60.0) == [18]


def test_a_direction_that_is_disabled():
    """`selectPolicy: Disabled`: never down, or never up."""
    assert played(Scaler(Bounds(1, 9, UP, Rules((), select="Disabled"))), 5, [1, 1, 1]) == [5, 5, 5]
    assert played(Scaler(Bounds(1, 9, Rules((), select="Disabled"))), 5, [9, 9]) == [5, 5]


def test_the_default_doubles_or_adds_four_every_15_seconds():
    """From one replica: 5, 10, 20, and no more than there may be."""
    assert played(Scaler(Bounds(1, 30)), 1, [100] * 4, every=15.0) == [5, 10, 20, 30]


def test_the_default_goes_down_at_once_after_five_minutes():
    """A rolling maximum of all that was recommended in 300 s."""
    told = played(Scaler(Bounds(1, 30)), 10, [10] * 3 + [2] * 25)
    assert told == [10] * 22 + [2] * 6


def test_going_up_may_be_made_to_wait_too():
    """The smallest recommendation of the window counts."""
    scaler = Scaler(Bounds(1, 30, Rules(UP.policies, window=60.0)))
    assert played(scaler, 1, [5, 3, 5, 5, 5, 5, 5]) == [1, 1, 1, 1, 3, 5, 5]


def test_outside_of_its_bounds_a_deployment_is_brought_back():
    """Whatever the metrics say, and without regard to policies."""
    assert Scaler(Bounds(2, 10)).decide(1, 1, 0.0) == 2
    assert Scaler(Bounds(2, 10)).decide(40, None, 0.0) == 10


def test_without_a_recommendation_nothing_happens():
    """Metrics are missing: as many as there are."""
    assert Scaler(Bounds(1, 10)).decide(4, None, 0.0) == 4


policies = st.lists(
    st.builds(Policy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.sampled_from([15.0, 60.0, 300.0])),
    min_size=1,
    max_size=3,
).map(tuple)
rules = st.builds(Rules, policies, st.sampled_from([0.0, 30.0, 300.0]), st.sampled_from(["Max", "Min", "Disabled"]))
bounds = st.builds(
    lambda low, more, up, down: Bounds(low, low + more, up, down), st.integers(1, 5), st.integers(0, 30), rules, rules
)
wishes = st.lists(st.integers(0, 60), min_size=1, max_size=60)


@given(bounds, st.integers(1, 35), wishes)
def test_replicas_stay_within_their_bounds(of: Bounds, start: int, recommendations: list[int]):
    """From the first decision on, whatever is recommended."""
    assert all(of.low <= each <= of.high for each in played(Scaler(of), start, recommendations))


@given(bounds, wishes)
def test_nothing_sinks_below_what_was_wanted_within_the_window(of: Bounds, recommendations: list[int]):
    """A number that sinks is no smaller than any recommendation of the window, unless the upper bound makes it so."""
    before, scaler = of.low, Scaler(of)
    for number, recommendation in enumerate(recommendations):
        now = scaler.decide(before, recommendation, 15.0 * number)
        if now < before:
            first = max(0, number + 1 - int(of.down.window // 15) if of.down.window else number)
            assert now >= min(max(recommendations[first : number + 1]), of.high, before)
        before = now


@given(bounds, wishes)
def test_nothing_grows_faster_than_its_policies(of: Bounds, recommendations: list[int]):
    """With one policy in pods, no more come within its period than it says."""
    policy = Policy("Pods", 3, 60.0)
    limited = of._replace(up=Rules((policy,)), low=1, high=100)
    told = [1, *played(Scaler(limited), 1, recommendations)]
    grown = [max(0, after - before) for before, after in itertools.pairwise(told)]
    for first in range(len(grown)):
        back = _gone(told[max(0, first - 4) : first + 5])
        assert sum(grown[first : first + 4]) <= 3 + back


def _gone(told: list[int]) -> int:
    """What went within a period may come back beside what the policy lets come."""
    return sum(max(0, before - after) for before, after in itertools.pairwise(told))


def test_the_defaults_are_those_of_the_documentation():
    """100 % or 4 pods in 15 s up, 100 % in 15 s down after 300 s."""
    assert Rules((Policy("Percent", 100, 15), Policy("Pods", 4, 15)), 0, "Max") == UP
    assert Rules((Policy("Percent", 100, 15),), 300, "Max") == DOWN

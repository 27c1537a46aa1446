"""Load, replicas, metrics and autoscaler together: nothing is lost, bounds hold, and what is known must come out."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capacity.behavior import Bounds
from capacity.latency import Group, behind_others, quantile
from capacity.load import Load
from capacity.runs import Autoscaler, Setup
from capacity.sampling import MetricsServer, Rates, Used
from capacity.service import STEP, Cost, Replica, Running, shared
from capacity.simulation import BEFORE, simulate
from tests.examples import few

COST = Cost(((1_000.0, 2e-4), (10_000.0, 1e-4)))
KIND = Replica(COST)
"""At half a core: 5,000 calls a second."""

rates = st.floats(1, 20_000)
kinds = st.builds(
    lambda limit, in_flight: KIND._replace(limit=limit, request=limit, in_flight=in_flight),
    st.floats(0.1, 1.0),
    st.integers(1, 500),
)


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    """Small setups of every kind."""
    load = Load(
        name="any",
        rps=draw(rates),
        on=draw(st.floats(1, 10)),
        off=draw(st.sampled_from([0.0, 5.0, 25.0])),
        lasts=draw(st.floats(1, 60)),
        truth_after=draw(st.sampled_from([None, 0.0, 5.0, 30.0])),
    )
    low = draw(st.integers(1, 3))
    scaler = Autoscaler(
        Bounds(low, low + draw(st.integers(0, 6))),
        cpu=draw(st.integers(10, 90)),
        in_flight=draw(st.sampled_from([None, 32.0])),
        resolution=draw(st.sampled_from([15.0, 60.0])),
    )
    return Setup(load, scaler, draw(kinds), draw(st.sampled_from([0.0, 7.0])), draw(st.sampled_from([0.0, 30.0])), 30.0)


@few(40)
@given(setups())
def test_no_call_is_lost_or_counted_twice(setup: Setup):
    """Arrivals = answered + refused + waiting, each prediction arrives once, and replicas stay within their bounds."""
    outcome = simulate(setup)
    totals = outcome.totals
    assert totals.arrivals == totals.answered + totals.refused + totals.waiting
    assert totals.predictions == setup.load.records(setup.load.lasts)
    assert 0 <= totals.failed <= min(totals.predictions, totals.refused)
    low, high = setup.autoscaler.bounds[:2]
    assert all(low <= each.told <= high for each in outcome.moments)
    # What was left of a step for a call that had begun may be used in the next one, and so in the next moment.
    assert all(0 <= each.busy <= 1 + 1e-3 for each in outcome.moments)
    assert all(0 <= each.p50 <= each.p99 for each in outcome.moments)


@few(15)
@given(st.integers(1_000, 20_000), st.floats(1.2, 3))
def test_more_load_never_makes_fewer_replicas_at_the_peak(rps: int, factor: float):
    """Monotone in a load that is steady."""

    def most(rate: float) -> int:
        load = Load(name="steady", rps=rate, lasts=120.0, truth_after=None)
        outcome = simulate(Setup(load, Autoscaler(Bounds(1, 20)), KIND, after=0.0))
        return max(each.told for each in outcome.moments)

    assert most(rps) <= most(rps * factor)


@few(15)
@given(st.floats(1, 10), st.sampled_from([240.0, 300.0, 600.0]))
def test_the_number_does_not_sink_within_the_window(off: float, window: float):
    """However load and metrics go up and down, no replica goes before a window has passed since the first came."""
    down = Bounds(1, 10).down._replace(window=window)
    load = Load(name="bursts", rps=8_000, on=15.0, off=off, lasts=200.0, truth_after=None)
    outcome = simulate(Setup(load, Autoscaler(Bounds(1, 10, down=down)), KIND, after=0.0))
    told = [each.told for each in outcome.moments]
    assert all(after >= before for before, after in itertools.pairwise(told))


def test_a_steady_load_ends_at_what_the_formula_says():
    """8,000 calls a second at 0.1 ms are 0.8 cores; at 60 % of half a core that is 2.67, and so 3 replicas."""
    load = Load(name="steady", rps=8_000, lasts=400.0, truth_after=None)
    flat = KIND._replace(cost=Cost(((1.0, 1e-4),)))
    outcome = simulate(Setup(load, Autoscaler(Bounds(1, 20)), flat))
    settled = [each for each in outcome.moments if 200 <= each.at <= 400]
    assert {each.told for each in settled} == {3}
    assert [each.busy for each in settled] == pytest.approx([0.8 / 1.5] * len(settled), rel=0.01)
    assert sum(each.errors for each in settled) == 0
    assert outcome.moments[-1].told == 1


def test_five_minutes_pass_before_the_first_one_goes():
    """Counted from the last sync that saw the load; and not more than two turns of everything beyond that."""
    load = Load(name="steady", rps=8_000, lasts=100.0, truth_after=None)
    outcome = simulate(Setup(load, Autoscaler(Bounds(1, 20)), KIND))
    most = max(each.told for each in outcome.moments)
    end = max(each.at for each in outcome.moments if each.told == most)
    assert 300 - 15 <= end - load.lasts <= 300 + 2 * 15


def test_a_burst_shorter_than_a_turn_is_averaged_away():
    """A replica at its limit for 5 of 30 s is seen at a third of it at most: nothing grows, and most is refused."""
    load = Load(name="bursts", rps=20_000, on=5.0, off=25.0, lasts=300.0, truth_after=None)
    outcome = simulate(Setup(load, Autoscaler(Bounds(1, 20), cpu=60), KIND, phase=6.0))
    assert max(each.told for each in outcome.moments) == 1
    assert outcome.totals.failed / outcome.totals.predictions == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("phase", [1.0, 6.0, 11.0])
@pytest.mark.parametrize("beside", [{"in_flight": 16.0}, {"refused": 100.0}])
def test_what_is_refused_or_in_flight_tells_what_the_average_hides(phase: float, beside: dict[str, float]):
    """The same bursts, with another metric beside CPU: it grows, whenever it is looked at."""
    load = Load(name="bursts", rps=20_000, on=5.0, off=25.0, lasts=300.0, truth_after=None)
    outcome = simulate(Setup(load, Autoscaler(Bounds(1, 20), cpu=60, **beside), KIND, phase=phase))
    assert max(each.told for each in outcome.moments) >= 3
    late = [each for each in outcome.moments if 200 < each.at <= 300]
    assert sum(each.errors for each in late) < sum(each.rate for each in late) / 4


def test_what_waits_is_answered_though_its_replica_goes():
    """Scale-in under load: drained replicas finish what they have."""
    down = Bounds(1, 10).down._replace(window=0.0)
    load = Load(name="bursts", rps=12_000, on=40.0, off=20.0, lasts=240.0, truth_after=5.0)
    outcome = simulate(Setup(load, Autoscaler(Bounds(1, 10, down=down)), KIND))
    assert outcome.totals.waiting == 0
    told = [each.told for each in outcome.moments]
    assert any(after < before for before, after in itertools.pairwise(told))


def test_the_same_setup_has_the_same_outcome():
    """There is no chance and no clock in it."""
    setup = Setup(Load(name="steady", rps=9_000, lasts=60.0), Autoscaler(Bounds(1, 5)), KIND, after=60.0)
    assert simulate(setup) == simulate(setup)


def test_the_minute_before_is_quiet():
    """Moments before the load have no calls, and the autoscaler does nothing in them."""
    outcome = simulate(Setup(Load(name="x", rps=100, lasts=10.0), Autoscaler(Bounds(2, 5)), KIND, after=0.0))
    before = [each for each in outcome.moments if each.at <= 0]
    assert len(before) == round(BEFORE / 5)
    assert {(each.rate, each.told, each.p99) for each in before} == {(0.0, 2, 0.0)}


@given(st.integers(0, 10_000), st.lists(st.floats(0.01, 10), min_size=1, max_size=9), st.integers(0, 99))
def test_calls_are_divided_by_weight(calls: int, weights: list[float], turn: int):
    """They add up, and nobody is more than one away from its share for each that is left over."""
    shares = shared(calls, weights, turn)
    assert sum(shares) == calls
    exact = [calls * weight / sum(weights) for weight in weights]
    assert all(abs(share - each) < len(weights) + 1 for share, each in zip(shares, exact, strict=True))


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=50), kinds)
def test_a_replica_neither_loses_a_call_nor_exceeds_its_limit(arrivals: list[int], kind: Replica):
    """Taken = answered + waiting, no more waits than may, and it uses at most its limit."""
    running = Running(0, 0.0, 0.0)
    for each in arrivals:
        before, used = running.waiting, running.used
        served = running.serve(each, kind)
        assert each == served.answered + served.refused + running.waiting - before
        assert 0 <= running.waiting <= kind.in_flight
        assert served.refused >= 0
        assert running.used - used <= kind.limit * STEP + COST.points[0][1] + 1e-9
    assert running.used <= len(arrivals) * kind.limit * STEP + 1e-9


def test_a_call_costs_what_lies_between_two_points():
    """Outside of them it costs what the nearest one says."""
    assert [COST.at(rate) for rate in (1, 1_000, 5_500, 10_000, 1e9)] == pytest.approx([2e-4, 2e-4, 1.5e-4, 1e-4, 1e-4])
    assert KIND.most == 5_000


@given(st.floats(0.5, 100), st.floats(1, 20), st.floats(0, 30), st.lists(st.floats(0, 300), min_size=1, max_size=20))
def test_records_come_in_bursts_and_add_up(rps: float, on: float, off: float, moments: list[float]):
    """Never fewer with time, none in a silence, all of them at the end."""
    load = Load(name="x", rps=rps, on=on, off=off, lasts=300.0)
    come = [load.records(each) for each in sorted(moments)]
    assert come == sorted(come)
    assert load.records(-1) == 0
    assert load.records(on + off) == load.records(on) if off else True
    assert load.records(1e9) == load.records(300.0)


@pytest.mark.parametrize("wrong", [{"rps": 0}, {"rps": math.inf}, {"lasts": 0}, {"off": -1.0}, {"truth_after": -1.0}])
def test_what_is_no_load_is_refused(wrong: dict[str, float]):
    """With its name."""
    with pytest.raises(ValueError, match="made up"):
        Load(**({"name": "made up", "rps": 1.0} | wrong))


def test_a_new_container_is_known_after_two_looks_or_by_its_start():
    """Twelve seconds old at its first look: compared with its start; younger, or older than a turn: from the second."""
    server = MetricsServer()
    server.look(100.0, {1: Used(88.0, 3.0), 2: Used(95.0, 1.0), 3: Used(0.0, 50.0)})
    first = server.sample(1)
    assert first is not None
    assert (first.window, first.value) == (12.0, 0.25)
    assert server.sample(2) is server.sample(3) is server.sample(4) is None
    server.look(115.0, {2: Used(95.0, 4.0), 3: Used(0.0, 56.0)})
    assert server.sample(1) is None
    second, third = server.sample(2), server.sample(3)
    assert second is not None
    assert third is not None
    assert (second.at, second.window, second.value, third.value) == (115.0, 15.0, 0.2, 0.4)


def test_a_rate_is_of_a_minute_and_of_two_scrapes_at_least():
    """A burst between two scrapes counts as much as one across them; a pod that is gone is forgotten at once."""
    rates = Rates()
    rates.look(0.0, {1: 0.0, 2: 5.0})
    assert rates.sample(1) is None
    rates.look(15.0, {1: 600.0, 2: 5.0})
    assert rates.sample(1) == (15.0, 15.0, 40.0)
    for at in (30.0, 45.0, 60.0):
        rates.look(at, {1: 600.0})
    assert rates.sample(1) == (60.0, 60.0, 10.0)
    rates.look(75.0, {1: 600.0})
    assert rates.sample(1) == (75.0, 60.0, 0.0)
    assert rates.sample(2) is None


def test_waits_of_groups_and_of_those_that_did_not_wait():
    """Half of 200 calls waited between 10 and 20 ms: the median is none, the 99th percentile near the top."""
    groups = [Group(100, 0.010, 0.020)]
    assert quantile(groups, 200, 0.49) == 0.0
    assert quantile(groups, 200, 0.99) == pytest.approx(0.01875)
    assert quantile([], 10, 0.99) == 0.0


@given(st.floats(0, 0.99), st.floats(1e-6, 1e-3))
def test_the_wait_behind_others_has_the_right_mean(busy: float, cost: float):
    """Its distribution, integrated, is the formula of Pollaczek and Khinchine for equal calls."""
    steps = 2_000
    mean = sum(behind_others(busy, cost, (number + 0.5) / steps) for number in range(steps)) / steps
    assert mean == pytest.approx(busy * cost / (2 * (1 - busy)), rel=0.02, abs=cost / 100)

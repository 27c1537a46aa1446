"""The schedules of a load test: Poisson arrivals, ramps, and both with bursts."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsim.arrivals import Schedule, next_burst, offsets, rate_at

seeds = st.integers(0, 2**63)


@given(rps=st.floats(20, 500), seed=seeds)
def test_poisson_arrivals_have_the_mean_rate(rps: float, seed: int):
    """Their number over 20 s is within seven standard deviations of the expected one, ascending and in time."""
    sent = list(offsets(Schedule(rps, 20, duration=20, poisson=seed)))
    expected = rps * 20
    assert abs(len(sent) - expected) <= 7 * math.sqrt(expected)
    assert sent == sorted(sent)
    assert 0 <= sent[0] <= sent[-1] < 20


def test_poisson_gaps_vary_as_much_as_their_mean():
    """The coefficient of variation of exponential gaps is 1; evenly spaced ones have 0."""
    sent = list(offsets(Schedule(1000, 20, duration=20, poisson=1)))
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert deviation / mean == pytest.approx(1, abs=0.1)


@given(seed=seeds)
def test_a_seed_is_a_schedule(seed: int):
    """The same seed gives the same arrivals, the next one others."""
    one, again, other = (list(offsets(Schedule(50, 2, duration=2, poisson=each))) for each in (seed, seed, seed + 1))
    assert one == again != other


@given(rps=st.floats(10, 500), ramp=st.floats(0.5, 10), rest=st.floats(0, 5))
def test_a_ramp_holds_half_the_records_of_its_length(rps: float, ramp: float, rest: float):
    """A straight line from 0 has half the area; after it the spacing is that of the full rate."""
    end = ramp + rest + 0.1
    sent = list(offsets(Schedule(rps, end, duration=end, ramp=ramp)))
    assert len(sent) == pytest.approx(rps * (end - ramp / 2), abs=1.01)
    late = [at for at in sent if at >= ramp]
    gaps = [after - before for before, after in itertools.pairwise(late)]
    assert gaps == pytest.approx([1 / rps] * len(gaps), rel=1e-6)


@given(rps=st.floats(50, 500), on=st.floats(0.1, 2), off=st.floats(0.1, 3), ramp=st.floats(0, 3), seed=seeds)
def test_nothing_arrives_in_a_silence(rps: float, on: float, off: float, ramp: float, seed: int):
    """Whatever the ramp, Poisson arrivals fall into bursts, as many as the bursts have room for."""
    schedule = Schedule(rps, on, off, cycles=4, ramp=ramp, poisson=seed)
    sent = list(offsets(schedule))
    assert all(at % (on + off) <= on + 1e-9 or at % (on + off) >= on + off - 1e-9 for at in sent)
    active = 4 * on
    expected = rps * (active - ramp / 2 if active >= ramp else active**2 / ramp / 2)
    assert abs(len(sent) - expected) <= 7 * math.sqrt(expected) + 7


def test_the_planned_rate_rises_with_the_ramp_and_counts_bursts_only():
    """Half the rate after half the ramp, which a silence interrupts; the burst has begun although the rate is 0."""
    schedule = Schedule(100, 1, 1, cycles=4, ramp=2)
    assert [rate_at(schedule, at) for at in (0, 0.5, 1.5, 2.5, 4.5)] == [0, 25, 0, 75, 100]
    assert next_burst(schedule, 0) == 0


def test_a_ramp_that_is_no_length_is_refused():
    """A schedule that exists can be run."""
    with pytest.raises(ValueError, match="must be"):
        Schedule(20, 5, ramp=-1)

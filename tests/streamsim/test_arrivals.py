"""The schedule: how many records, when, and nothing else."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsim.arrivals import Schedule, next_burst, offsets, rate_at

rates = st.floats(0.1, 500)
lengths = st.floats(0.05, 30)


def test_a_burst_is_evenly_spaced_and_followed_by_silence():
    """Two bursts of 4 a second for 1 s with 2 s of silence."""
    sent = list(offsets(Schedule(4, 1, 2, cycles=2)))
    assert sent == [0, 0.25, 0.5, 0.75, 3, 3.25, 3.5, 3.75]


def test_off_zero_is_one_steady_stream():
    """Without silence the spacing goes on across cycles, also where a burst holds no whole number of records."""
    assert list(offsets(Schedule(2, 0.75, 0, cycles=2))) == [0, 0.5, 1.0]


def test_speed_compresses_the_schedule():
    """Speed 10 sends the same records in a tenth of the time."""
    slow = list(offsets(Schedule(4, 1, 2, cycles=2)))
    fast = list(offsets(Schedule(4, 1, 2, cycles=2, speed=10)))
    assert fast == pytest.approx([at / 10 for at in slow])


@pytest.mark.parametrize(("cycles", "duration", "count"), [(2, 100, 40), (10, 31, 40), (10, 5, 20), (10, 30.5, 30)])
def test_whichever_ends_first(cycles: int, duration: float, count: int):
    """Cycles and duration both end the stream."""
    assert len(list(offsets(Schedule(20, 1, 29, cycles=cycles, duration=duration)))) == count


def test_an_endless_stream_does_not_drift():
    """A late record of a late cycle is exactly where its index puts it."""
    at = next(itertools.islice(offsets(Schedule(10, 1, 0.1)), 100_003, None))
    assert at == 10_000 * 1.1 + 3 / 10


@given(rps=rates, on=lengths, off=lengths, cycles=st.integers(1, 4), speed=st.sampled_from([1, 3, 10]))
def test_every_cycle_holds_the_same_records(rps: float, on: float, off: float, cycles: int, speed: float):
    """As many as fit into a burst, ascending, none outside a burst, whatever the numbers."""
    schedule = Schedule(rps, on, off, cycles=cycles, speed=speed)
    sent = list(offsets(schedule))
    assert len(sent) == cycles * math.ceil(round(rps * on, 9))
    assert sent == sorted(set(sent))
    phases = [at * speed % (on + off) for at in sent]
    assert all(phase < on + 1e-6 or phase > on + off - 1e-6 for phase in phases)


@given(rps=rates, on=lengths, off=st.sampled_from([0.0, 2.5]), duration=st.floats(0.1, 20))
def test_nothing_is_planned_at_or_after_the_end(rps: float, on: float, off: float, duration: float):
    """The duration is exclusive, and the first record leaves at 0."""
    sent = list(offsets(Schedule(rps, on, off, duration=duration)))
    assert sent[0] == 0
    assert sent[-1] < duration


def test_planned_rate_and_next_burst_follow_the_clock():
    """In a burst, in the silence after it, and after the end."""
    schedule = Schedule(20, 5, 25, cycles=2, speed=10)
    assert (rate_at(schedule, 0.1), next_burst(schedule, 0.1)) == (200, 0)
    assert (rate_at(schedule, 1.0), next_burst(schedule, 1.0)) == (0, 2)
    assert (rate_at(schedule, 4.0), next_burst(schedule, 4.0)) == (0, None)


@pytest.mark.parametrize(
    "wrong", [{"rps": 0}, {"on": math.nan}, {"off": -1}, {"cycles": 0}, {"duration": math.inf}, {"speed": 0}]
)
def test_what_describes_no_schedule_is_refused(wrong: dict[str, float]):
    """A schedule that exists can be run."""
    with pytest.raises(ValueError, match="must be"):
        Schedule(**({"rps": 20, "on": 5} | wrong))

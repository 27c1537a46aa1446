"""Truths that stand: found while they may come again, forgotten in time, never more than may be kept."""

from hypothesis import given
from hypothesis import strategies as st

from calsvc.feedback.settled import SLICES, SettledTruths

RETENTION = 256.0
SLICE = RETENTION / SLICES


def test_the_latest_truth_of_an_id_stands():
    """A record that was predicted and settled again has its new truth."""
    truths = SettledTruths(RETENTION, most=100)
    truths.add("a", 10.0, 0.0)
    truths.add("a", 20.0, 5 * SLICE)
    assert truths.get("a", 6 * SLICE) == 20.0


def test_a_truth_of_0_kcal_is_one():
    """0 is a number like any other."""
    truths = SettledTruths(RETENTION, most=100)
    truths.add(1, 0.0, 0.0)
    assert truths.get(1, 0.0) == 0.0


@given(times=st.lists(st.floats(0, 1000), min_size=1, max_size=60), asked=st.floats(0, 2000))
def test_a_truth_is_known_for_the_retention_and_a_slice_at_most(times: list[float], asked: float):
    """Never forgotten early, never kept longer than promised."""
    truths = SettledTruths(RETENTION, most=1000)
    for number, now in enumerate(sorted(times)):
        truths.add(number, float(number), now)
    asked += max(times)
    for number, settled_at in enumerate(sorted(times)):
        age = asked - settled_at
        known = truths.get(number, asked)
        if age <= RETENTION:
            assert known == number
        if age > RETENTION + SLICE:
            assert known is None


@given(times=st.lists(st.floats(0, 200), min_size=1, max_size=200), most=st.integers(1, 50))
def test_no_more_are_kept_than_may_be_and_one_slice(times: list[float], most: int):
    """The oldest slice goes first; the newest is never cut."""
    truths = SettledTruths(RETENTION, most)
    for number, now in enumerate(sorted(times)):
        truths.add(number, 1.0, now)
    known = [number for number in range(len(times)) if truths.get(number, max(times)) is not None]
    newest = sum(1 for now in times if now >= max(times) - SLICE)
    assert len(known) <= max(most, newest)
    assert known == list(range(len(times) - len(known), len(times)))

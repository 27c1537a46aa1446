"""Truths that stand: found while they may come again, forgotten in time, never more than may be kept."""

from hypothesis import example, given
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
@example(times=[0.0], asked=RETENTION + SLICE / 2)
@example(times=[0.0, SLICE / 2], asked=RETENTION)
def test_a_truth_is_known_for_exactly_the_retention(times: list[float], asked: float):
    """Never forgotten early, never known longer, whatever else shares its slice."""
    truths = SettledTruths(RETENTION, most=1000)
    for number, now in enumerate(sorted(times)):
        truths.add(number, float(number), now)
    asked += max(times)
    expected = [number if asked - joined_at <= RETENTION else None for number, joined_at in enumerate(sorted(times))]
    assert [truths.get(number, asked) for number in range(len(times))] == expected


@given(times=st.lists(st.floats(0, 200), min_size=1, max_size=60))
def test_what_is_handed_on_is_when_each_was_joined(times: list[float]):
    """To the last bit, and the oldest first: the next process forgets them when this one would have."""
    truths = SettledTruths(RETENTION, most=1000)
    for number, now in enumerate(sorted(times)):
        truths.add(-number, 1.0, now)
    handed_on = list(truths.items())
    assert [joined_at for _, _, joined_at in handed_on] == sorted(times)
    assert {(-key, joined_at) for key, _, joined_at in handed_on} == set(enumerate(sorted(times)))


@given(times=st.lists(st.floats(0, 1000), min_size=1, max_size=60), later=st.floats(0, 300))
@example(times=[0.0, 100.0], later=RETENTION - 100 + SLICE + 1)
def test_memory_is_freed_a_slice_after_the_retention(times: list[float], later: float):
    """Nothing that is older is left, however new the others are."""
    truths = SettledTruths(RETENTION, most=1000)
    for number, now in enumerate(sorted(times)):
        truths.add(number, 1.0, now)
    now = max(times) + later
    truths.sweep(now)
    assert all(now - joined_at <= RETENTION + SLICE for _, _, joined_at in truths.items())


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

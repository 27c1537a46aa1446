"""How a ledger forgets: by age and by number, a little with every call. tests/feedback/test_stores.py has the rest."""

import pytest

from calsvc.feedback.ledger import Ledger
from calsvc.feedback.records import Joined, StoreStatistics
from calsvc.http.errors import UnknownId
from tests.feedback.stores import RETENTION, SHADOW, prediction


@pytest.fixture
def ledger() -> Ledger:
    """A ledger as the service has it by default, but small."""
    return Ledger(RETENTION, max_pending=100)


def test_feedback_matches_until_the_last_moment_of_the_retention(ledger: Ledger):
    """The age of an hour is still within the hour; a moment later nothing waits, even before anything has swept it."""
    ledger.remember(1, prediction(1000.0))
    ledger.remember(2, prediction(1000.0))
    assert ledger.join(1, 77.0, 1000.0 + RETENTION) == Joined("matched", prediction(1000.0))
    with pytest.raises(UnknownId, match="2"):
        ledger.join(2, 77.0, 1000.0 + RETENTION + 0.001)


def test_the_oldest_goes_when_too_many_wait(ledger: Ledger):
    """Past the limit the oldest prediction is forgotten, and counted."""
    for number in range(101):
        ledger.remember(number, prediction(float(number)))
    assert ledger.statistics() == StoreStatistics(pending=100, expired=0, overflowed=1)
    with pytest.raises(UnknownId):
        ledger.join(0, 1.0, 101.0)
    assert ledger.join(1, 1.0, 101.0).status == "matched"


def test_what_is_past_its_retention_goes_a_little_with_every_call(ledger: Ledger):
    """No call scans: each removes at most two, and the backlog still shrinks."""
    for number in range(10):
        ledger.remember(number, prediction(float(number)))
    ledger.remember("late", prediction(10.0 + RETENTION))
    assert ledger.statistics() == StoreStatistics(pending=9, expired=2, overflowed=0)
    assert ledger.join("late", 77.0, 10.0 + RETENTION).status == "matched"
    assert ledger.statistics() == StoreStatistics(pending=6, expired=4, overflowed=0)
    ledger.sweep(10.0 + RETENTION, limit=100)
    assert ledger.statistics() == StoreStatistics(pending=0, expired=10, overflowed=0)


def test_settled_predictions_are_forgotten_after_the_retention_too(ledger: Ledger):
    """A duplicate that comes an hour after the truth is unknown, so that memory is bounded in time."""
    ledger.remember(1, prediction(0.0))
    ledger.join(1, 77.0, 300.0)
    assert ledger.join(1, 77.0, 300.0 + RETENTION).status == "duplicate"
    with pytest.raises(UnknownId):
        ledger.join(1, 77.0, 300.001 + RETENTION)


def test_a_shadow_keeps_the_place_of_its_prediction(ledger: Ledger):
    """The first to come is the first to go, whatever the challenger says meanwhile."""
    for number in range(100):
        ledger.remember(number, prediction(float(number)))
    assert ledger.attach(0, 0.0, SHADOW)
    ledger.remember("one more", prediction(100.0))
    with pytest.raises(UnknownId):
        ledger.join(0, 1.0, 100.0)

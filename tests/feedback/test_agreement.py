"""Ledger and scoreboard against a naive model that keeps every event in a list and recomputes everything."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from calsvc.feedback.ledger import Ledger
from calsvc.feedback.quality import Scoreboard, Series
from calsvc.feedback.records import Remembered
from calsvc.http.errors import TruthConflict, UnknownId
from tests.examples import few

WINDOW, DELAY, RETENTION = 5, 7.0, 40.0
SERIES = (Series("v1", "champion"), Series("v2", "champion"))


@dataclass
class Event:
    """One prediction, as a list would keep it; `truth` and `joined_at` once it has its label."""

    record_id: int
    series: Series
    kcal: float
    made_at: float
    latest: bool = True
    replaced: bool = False
    truth: float | None = None
    joined_at: float | None = None


class Agreement(RuleBasedStateMachine):
    """Any interleaving of predictions, truths and time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.events: list[Event] = []
        self.ledger = Ledger(RETENTION, max_pending=10_000)
        self.board = Scoreboard(WINDOW, DELAY)

    @rule(seconds=st.one_of(st.floats(0, 0.5), st.floats(0, 12), st.sampled_from([1.0, 5.0, 7.0, 40.0])))
    def wait(self, seconds: float) -> None:
        """Time goes on."""
        self.now += seconds

    @rule(record_id=st.integers(0, 8), series=st.sampled_from(SERIES), kcal=st.floats(-1, 400))
    def predict(self, record_id: int, series: Series, kcal: float) -> None:
        """A record is predicted, perhaps again."""
        replaced_at = self.ledger.remember(record_id, Remembered(kcal, self.now, series))
        self.board.predicted(series, kcal, self.now)
        before = [event for event in self.events if event.latest and event.record_id == record_id]
        for event in before:
            event.latest = False
            event.replaced = event.joined_at is None and self.now - event.made_at <= RETENTION
        assert replaced_at == next((event.made_at for event in before if event.replaced), None)
        if replaced_at is not None:
            self.board.replaced(replaced_at)
        self.events.append(Event(record_id, series, kcal, self.now))

    @rule(record_id=st.integers(0, 9), truth=st.sampled_from([0.0, 1.0, 77.0, 300.0]))
    def learn(self, record_id: int, truth: float) -> None:
        """A truth comes: in time, late, again, different, or for nobody."""
        expected = self.expected_outcome(record_id, truth)
        try:
            joined = self.ledger.join(record_id, truth, self.now)
        except (UnknownId, TruthConflict) as error:
            assert type(error) is expected
            return
        assert joined.status == expected
        if joined.status == "matched":
            prediction = joined.prediction
            self.board.judged(prediction.series, prediction.kcal, prediction.made_at, truth, self.now)
            (event,) = [event for event in self.events if event.latest and event.record_id == record_id]
            event.truth, event.joined_at = truth, self.now

    def expected_outcome(self, record_id: int, truth: float) -> str | type[Exception]:
        """What the list says must happen."""
        found = [event for event in self.events if event.latest and event.record_id == record_id]
        if not found:
            return UnknownId
        (event,) = found
        since = event.made_at if event.joined_at is None else event.joined_at
        if self.now - since > RETENTION:
            return UnknownId
        if event.joined_at is None:
            return "matched"
        return "duplicate" if event.truth == truth else TruthConflict

    def in_window(self, moment: float | None, now: float) -> bool:
        """Whether a moment lies in the last WINDOW whole seconds."""
        return moment is not None and math.floor(now) - WINDOW < math.floor(moment) <= math.floor(now)

    @invariant()
    def quality_agrees(self) -> None:
        """RMSLE, MAE, samples, totals and the rolling mean are those of the list."""
        for snapshot in self.board.snapshots(self.now):
            events = [event for event in self.events if event.series == snapshot.series]
            assert snapshot.predictions == len(events)
            joined = [event for event in events if event.joined_at is not None]
            assert snapshot.total.matched == len(joined)
            assert snapshot.total.absolute_error_kcal == pytest.approx(
                sum(abs(event.kcal - (event.truth or 0.0)) for event in joined)
            )
            recent = [event for event in joined if self.in_window(event.joined_at, self.now)]
            assert (snapshot.window.matched if snapshot.window else 0) == len(recent)
            if snapshot.window:
                squares = [(math.log1p(max(event.kcal, 0)) - math.log1p(event.truth or 0.0)) ** 2 for event in recent]
                absolutes = [abs(event.kcal - (event.truth or 0.0)) for event in recent]
                assert snapshot.window.rmsle == pytest.approx(math.sqrt(sum(squares) / len(squares)))
                assert snapshot.window.mae_kcal == pytest.approx(sum(absolutes) / len(absolutes))
            answers = [event.kcal for event in events if self.in_window(event.made_at, self.now)]
            mean = sum(answers) / len(answers) if answers else None
            assert snapshot.rolling_mean_kcal == (None if mean is None else pytest.approx(mean, abs=1e-9))

    @invariant()
    def coverage_agrees(self) -> None:
        """Both coverages are those of the list."""
        records = [event for event in self.events if not event.replaced]
        made = sum(self.in_window(event.made_at, self.now) for event in records)
        labels = sum(self.in_window(event.joined_at, self.now) for event in self.events)
        due_at = math.floor(self.now - DELAY) - 1
        due = [event for event in records if due_at - WINDOW < math.floor(event.made_at) <= due_at]
        labelled = [event for event in due if event.joined_at is not None]
        coverage = self.board.coverage(self.now)
        assert coverage.window == (labels / made if made else None)
        assert coverage.matured == (len(labelled) / len(due) if due else None)
        assert self.board.replacements == len(self.events) - len(records)

    @invariant()
    def pending_agrees(self) -> None:
        """What waits is what is latest, without truth and not too old."""
        self.ledger.sweep(self.now, limit=10_000)
        waiting = [
            event
            for event in self.events
            if event.latest and event.joined_at is None and self.now - event.made_at <= RETENTION
        ]
        assert self.ledger.statistics().pending == len(waiting)


@pytest.mark.parametrize("again", [0.0, 1.0])
def test_a_truth_that_comes_again_just_after_the_retention_is_unknown(again: float) -> None:
    """Neither a duplicate nor a conflict: the retention is exact for what is joined, as it is for what waits."""
    machine = Agreement()
    machine.predict(1, SERIES[0], 0.0)
    machine.learn(1, 0.0)
    machine.wait(0.5)
    machine.wait(RETENTION)
    assert machine.expected_outcome(1, again) is UnknownId
    machine.learn(1, again)


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(few(100), stateful_step_count=60)

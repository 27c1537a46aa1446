"""What a run has counted: one mutable tally inside the run, immutable totals for everyone else."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from streamsim.answers import Answer, Cause
from streamsim.latency import Latency, Quantiles
from streamsim.timeline import Timeline

if TYPE_CHECKING:
    from prometheus_client import Histogram as Distribution

TIMED: Final = frozenset({Cause.OK, Cause.TIMEOUT})
"""Whose duration counts. A timeout lasted at least as long; leaving it out would flatter."""


class Totals(NamedTuple):
    """The counts at one moment, which add up.

    planned = sent + not_sent;  sent = acknowledged + errors + interrupted + in_flight;
    acknowledged + interrupted + resumed = delivered + owed + given_up.
    """

    planned: int
    """Arrivals whose time had come."""
    not_sent: int
    acknowledged: int
    errors: Mapping[str, int]
    """Records that failed, by what became of them in the end."""
    prediction_retries: Mapping[str, int]
    """Tries of a prediction that were followed by another, by what became of them; the record counts once."""
    interrupted: int
    """Requests cut off by Ctrl-C, their outcome unknown: their truths stay in the journal."""
    in_flight: int
    resumed: int
    """Truths taken over from earlier runs."""
    delivered: Mapping[str, int]
    """Truths by the service's definitive answer: matched, duplicate, conflict, unknown, rejected."""
    retries: Mapping[str, int]
    """Deliveries that have to be tried again, by cause."""
    given_up: Mapping[str, int]
    """Truths that nothing had settled in time, by what became of their last delivery."""
    resent: int
    """Requests sent again at once, because an idle connection had been closed."""

    @property
    def sent(self) -> int:
        """Requests that left, or tried to."""
        return self.planned - self.not_sent

    @property
    def failed(self) -> int:
        """Requests without the right answer, those that were not sent included."""
        return sum(self.errors.values()) + self.not_sent

    @property
    def owed(self) -> int:
        """Truths that this run has taken on, and neither delivered nor given up."""
        settled = sum(self.delivered.values()) + sum(self.given_up.values())
        return self.acknowledged + self.interrupted + self.resumed - settled


class Timings(NamedTuple):
    """Latency from the planned and from the actual send time, and how late the simulator itself was; milliseconds."""

    from_planned: Quantiles
    from_sent: Quantiles
    schedule_lag: Quantiles


class Deliveries(NamedTuple):
    """Truths that are due and not settled, and how many of them are on their way."""

    due: int
    in_flight: int


class Buckets(NamedTuple):
    """The distributions once more, in seconds, by the buckets that Prometheus wants."""

    from_planned: "Distribution"
    from_sent: "Distribution"
    schedule_lag: "Distribution"
    feedback: "Distribution"


@dataclass(slots=True)
class Tally:
    """The run's counters. `causes` counts every arrival that is decided, by what became of it.

    A run that is to be looked at second by second has a `timeline` too; it grows with every answer. One that Prometheus
    looks at has `buckets`.
    """

    planned: int = 0
    in_flight: int = 0
    interrupted: int = 0
    resumed: int = 0
    causes: Counter[Cause] = field(default_factory=Counter)
    prediction_retries: Counter[Cause] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    retries: Counter[Cause] = field(default_factory=Counter)
    given_up: Counter[Cause] = field(default_factory=Counter)
    from_planned: Latency = field(default_factory=Latency)
    from_sent: Latency = field(default_factory=Latency)
    schedule_lag: Latency = field(default_factory=Latency)
    timeline: Timeline | None = None
    buckets: Buckets | None = None

    def late(self, seconds: float) -> None:
        """Count how late a record leaves."""
        self.schedule_lag.record(seconds)
        if self.buckets:
            self.buckets.schedule_lag.observe(seconds)

    def took(self, from_planned: float, from_sent: float, answer: Answer) -> None:
        """Count how long an answer to a prediction took, in seconds."""
        self.from_planned.record(from_planned)
        self.from_sent.record(from_sent)
        if self.buckets:
            self.buckets.from_planned.observe(from_planned, _ids(answer))
            self.buckets.from_sent.observe(from_sent, _ids(answer))

    def feedback_took(self, from_sent: float, answer: Answer) -> None:
        """Count how long an answer to a truth took, in seconds."""
        if self.buckets and answer.cause in TIMED:
            self.buckets.feedback.observe(from_sent, _ids(answer))

    def totals(self, resent: int) -> Totals:
        """Freeze the counts; `resent` is the client's own count."""
        errors = {cause: self.causes[cause] for cause in Cause if cause not in {Cause.OK, Cause.NOT_SENT}}
        return Totals(
            planned=self.planned,
            not_sent=self.causes[Cause.NOT_SENT],
            acknowledged=self.causes[Cause.OK],
            errors={str(cause): count for cause, count in errors.items() if count},
            prediction_retries={str(cause): count for cause, count in self.prediction_retries.items()},
            interrupted=self.interrupted,
            in_flight=self.in_flight,
            resumed=self.resumed,
            delivered=dict(self.delivered),
            retries={str(cause): count for cause, count in self.retries.items()},
            given_up={str(cause): count for cause, count in self.given_up.items()},
            resent=resent,
        )

    def timings(self) -> Timings:
        """Freeze the distributions; takes about three milliseconds."""
        return Timings(self.from_planned.quantiles(), self.from_sent.quantiles(), self.schedule_lag.quantiles())


def _ids(answer: Answer) -> dict[str, str] | None:
    return answer.trace.ids if answer.trace is not None else None

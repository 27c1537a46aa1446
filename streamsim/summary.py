"""What a run came to, and which exit code that is. Pure."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from streamsim.tally import Deliveries, Timings, Totals

MET: Final = 0
COULD_NOT_RUN: Final = 1
USAGE: Final = 2
MISSED: Final = 99


class Progress(NamedTuple):
    """A run while it goes on: rates in records per real second, times in real seconds."""

    elapsed: float
    planned_rate: float
    next_burst: float | None
    totals: Totals
    timings: Timings


class Now(NamedTuple):
    """A run at the moment of a scrape: records per second planned, what was counted, requests sent again by path."""

    planned_rate: float
    totals: Totals
    deliveries: Deliveries
    resent_to: Mapping[str, int]


class Summary(NamedTuple):
    """A run that has ended. `earlier` counts truths of earlier runs that were left as they were.

    `held`: truths that the journal holds at the end beside them.
    """

    started_at: float
    elapsed: float
    interrupted: bool
    earlier: int
    held: int
    totals: Totals
    timings: Timings

    @property
    def error_percent(self) -> float:
        """Arrivals without the right answer, in percent of all; those cut off by Ctrl-C are left out."""
        decided = self.totals.planned - self.totals.interrupted
        return 100 * self.totals.failed / decided if decided else 0.0


class Verdict(NamedTuple):
    """The exit code and, where it is not 0, the reason in one sentence."""

    exit_code: int
    reason: str = ""


def judge(summary: Summary, max_error_percent: float | None) -> Verdict:
    """Decide the exit code: 0 met, 1 could not do what was asked, 99 the error threshold was missed."""
    totals = summary.totals
    if wrong := disagreement(summary):
        return Verdict(COULD_NOT_RUN, wrong)
    if totals.failed and not totals.acknowledged:
        return Verdict(COULD_NOT_RUN, "not one prediction was acknowledged; is the service running at --url?")
    if max_error_percent is not None and summary.error_percent > max_error_percent:
        return Verdict(MISSED, f"{summary.error_percent:.3g} % errors, allowed are {max_error_percent:g} %")
    if left := undelivered(summary):
        return Verdict(COULD_NOT_RUN, "; ".join(left))
    return Verdict(MET)


def disagreement(summary: Summary) -> str:
    """Say which totals do not add up, where any do not: each is counted on its own, where it happens.

    What the totals call owed is compared with what the journal really holds.
    """
    totals = summary.totals
    ended = totals.acknowledged + sum(totals.errors.values()) + totals.interrupted
    wrong = []
    if totals.sent != ended:
        wrong.append(f"{totals.sent} records were sent, and {ended} acknowledged, failed or cut off")
    if totals.owed != summary.held:
        wrong.append(f"{totals.owed} truths should be owed, and the journal holds {summary.held}")
    return f"the totals do not add up, which is a mistake of this program: {'; '.join(wrong)}" if wrong else ""


def undelivered(summary: Summary) -> list[str]:
    """Say which truths were not delivered although the run had the time for it."""
    given_up, owed = sum(summary.totals.given_up.values()), summary.totals.owed
    told = [f"{given_up} truths were given up: nothing had settled them in time"] if given_up else []
    if owed and not summary.interrupted:
        told.append(f"{owed} truths could not be delivered within the grace time")
    return told


def as_json(summary: Summary, verdict: Verdict) -> dict[str, Any]:
    """Return the summary as a JSON object with plain names; latencies in milliseconds, times in seconds."""
    totals = summary.totals
    return {
        "exit_code": verdict.exit_code,
        "reason": verdict.reason,
        "started_at": summary.started_at,
        "elapsed_s": summary.elapsed,
        "interrupted": summary.interrupted,
        "error_percent": summary.error_percent,
        **totals._asdict(),
        "sent": totals.sent,
        "owed": totals.owed,
        "held_by_journal": summary.held,
        "owed_by_earlier_runs": summary.earlier,
        "milliseconds": {name: each._asdict() for name, each in summary.timings._asdict().items()},
    }

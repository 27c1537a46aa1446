"""A run as log lines, for a container: when it begins and ends, and when the service cannot be reached."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import anyio

from observability.addresses import server_of
from observability.events import tell
from observability.logs import configure_logs
from observability.provenance import resource_of
from observability.signals import RUN_ENDED, RUN_FAILED, RUN_STARTED, SERVICE_REACHABLE, SERVICE_UNREACHABLE
from streamsim.answers import Cause
from streamsim.errors import SimulatorError
from streamsim.summary import Progress, Summary, Verdict
from streamsim.tally import Totals

LOOK_EVERY_S: Final = 1.0
NOBODY_THERE: Final = frozenset({Cause.REFUSED, Cause.TIMEOUT, Cause.CLOSED})
"""What becomes of a request that no service has answered."""


@contextmanager
def run_log(url: str) -> Iterator[None]:
    """Write JSON lines to stdout: the begin of a run to `url`, whatever else is told, and why it could not run."""
    configure_logs(sys.stdout, resource_of("streamsim"), readable=False)
    tell(RUN_STARTED, server_of(url))
    try:
        yield
    except SimulatorError as error:
        tell(RUN_FAILED, {"reason": str(error)})
        raise


class LogScreen:
    """Watches a run for outages of the service."""

    def __init__(self) -> None:
        self._reached = True

    async def watch(self, progress: Callable[[], Progress]) -> None:
        """Look every second until cancelled, and once more then."""
        before = progress().totals
        try:
            while True:
                await anyio.sleep(LOOK_EVERY_S)
                now = progress().totals
                self.look(before, now)
                before = now
        finally:
            self.look(before, progress().totals)

    def look(self, before: Totals, now: Totals) -> None:
        """Tell of an outage that has begun or ended between two looks."""
        lost = unanswered(before, now)
        if answered(now) > answered(before):
            if not self._reached:
                tell(SERVICE_REACHABLE)
            self._reached = True
        elif lost and self._reached:
            tell(SERVICE_UNREACHABLE, {"causes": ", ".join(f"{count} {cause}" for cause, count in lost.items())})
            self._reached = False


def answered(totals: Totals) -> int:
    """Count the requests to which something has answered, whatever it was."""
    others = sum(count for counts in _failures(totals) for cause, count in _others(counts))
    return totals.acknowledged + sum(totals.delivered.values()) + others


def unanswered(before: Totals, now: Totals) -> dict[str, int]:
    """Count the requests that nobody has answered between two looks, by cause."""
    grown = Counter[str]()
    for counts in _failures(now):
        grown.update(counts)
    for counts in _failures(before):
        grown.subtract(counts)
    return {str(cause): grown[cause] for cause in sorted(NOBODY_THERE) if grown[cause]}


def tell_end(summary: Summary, verdict: Verdict) -> None:
    """Tell what a run came to."""
    totals = summary.totals
    told = {
        "planned": totals.planned,
        "acknowledged": totals.acknowledged,
        "failed": totals.failed,
        "retried": sum(totals.prediction_retries.values()),
        "interrupted": summary.interrupted,
        "delivered": sum(totals.delivered.values()),
        "owed": totals.owed,
        "given_up": sum(totals.given_up.values()),
        "seconds": round(summary.elapsed, 3),
        "p99_ms": summary.timings.from_planned.p99,
    }
    tell(RUN_ENDED, told)
    if verdict.reason:
        tell(RUN_FAILED, {"reason": verdict.reason})


def _failures(totals: Totals) -> tuple[Mapping[str, int], ...]:
    """Return what became of requests that failed, whether they were sent again or not."""
    return totals.errors, totals.prediction_retries, totals.retries, totals.given_up


def _others(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    return ((cause, count) for cause, count in counts.items() if cause not in NOBODY_THERE | {Cause.NOT_SENT})

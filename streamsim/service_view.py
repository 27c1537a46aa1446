"""What the service itself says about the time of a run: the difference between two looks at its /metrics.

Whatever the service does not export is simply not there.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from streamsim.compare import Samples, parse, total
from streamsim.errors import DemoFailed
from streamsim.service import fetch

DURATION: Final = "http_server_request_duration_seconds"
ROUTE: Final = "http_route"
STATUS: Final = "http_response_status_code"
COUNTERS: Final = {
    "predictions": "calsvc_predictions_total",
    "truths matched": "calsvc_quality_matched_total",
    "CPU seconds used": "process_cpu_seconds_total",
}
RESIDENT: Final = "process_resident_memory_bytes"


class Look(NamedTuple):
    """The service's samples at one moment (seconds of a monotonic clock)."""

    at: float
    samples: Samples


class Fact(NamedTuple):
    """One number of the service."""

    name: str
    value: float
    unit: str


def read_metrics(url: str, token: str | None = None) -> Samples:
    """Read the service's /metrics; empty where there is none."""
    with suppress(DemoFailed, ValueError):
        return parse(fetch(f"{url.rstrip('/')}/metrics", token))
    return {}


def service_view(before: Look, after: Look) -> list[Fact]:
    """Return what has changed between two looks; counters that the service has begun anew count from 0."""
    facts = [*_requests(before.samples, after.samples)]
    for name, metric in COUNTERS.items():
        labels = {} if metric.startswith("process") else {"role": "champion"}
        if (grown := _grown(before.samples, after.samples, metric, labels)) is not None:
            facts.append(Fact(name, grown, "s" if name.startswith("CPU") else ""))
            if name.startswith("CPU") and after.at > before.at:
                facts.append(Fact("CPU, share of one core", 100 * grown / (after.at - before.at), "%"))
    return facts + _memory(before.samples, after.samples)


def _requests(before: Samples, after: Samples) -> list[Fact]:
    """Count requests by route and status, and average their duration by route."""
    carried = [dict(labels) for name, labels in after if name == f"{DURATION}_count"]
    routes = sorted({labels.get(ROUTE, "") for labels in carried} - {""})
    facts = []
    for route in routes:
        for status in sorted({labels.get(STATUS, "") for labels in carried if labels.get(ROUTE) == route}):
            count = _grown(before, after, f"{DURATION}_count", {ROUTE: route, STATUS: status})
            if count:
                facts.append(Fact(f"{route} answered {status}", count, ""))
        count = _grown(before, after, f"{DURATION}_count", {ROUTE: route})
        seconds = _grown(before, after, f"{DURATION}_sum", {ROUTE: route})
        if count and seconds is not None:
            facts.append(Fact(f"{route} mean duration", 1000 * seconds / count, "ms"))
    return facts


def _memory(before: Samples, after: Samples) -> list[Fact]:
    start, end = total(before, RESIDENT), total(after, RESIDENT)
    facts = [] if end is None else [Fact("resident memory at the end", end / 2**20, "MiB")]
    if start is not None and end is not None:
        facts.append(Fact("resident memory, change", (end - start) / 2**20, "MiB"))
    return facts


def _grown(before: Samples, after: Samples, name: str, labels: Mapping[str, str]) -> float | None:
    start, end = total(before, name, labels) or 0.0, total(after, name, labels)
    if end is None:
        return None
    return end if end < start else end - start

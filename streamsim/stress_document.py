"""A load test's JSON, as a text among others in a log, and back again: whoever has the log can write the report."""

import json
from collections.abc import Mapping
from typing import Any, Final

from streamsim.errors import ReportError
from streamsim.latency import Latency, Quantiles
from streamsim.service_view import Fact
from streamsim.stress_report import Measured, Outcome
from streamsim.summary import Summary, Verdict
from streamsim.tally import Timings, Totals
from streamsim.timeline import Second

MARK: Final = "report| "
END: Final = "end"


def printed(document: Mapping[str, Any]) -> str:
    """Return a report as lines that can be told from others: what is said to stderr meanwhile may come between them.

    No line is long: what carries logs cuts at 16 KiB.
    """
    lines = [*json.dumps(document, indent=1).splitlines(), END]
    return "\n".join(f"{MARK}{line}" for line in lines)


def found(log: str) -> dict[str, Any] | None:
    """Return the report that a log holds; None where it holds none, or not all of it.

    Raises:
        ReportError: what stands there is no report.
    """
    lines = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    if not lines or lines[-1] != END:
        return None
    try:
        document = json.loads("\n".join(lines[:-1]))
    except ValueError as error:
        raise ReportError(f"the log holds a report that is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ReportError("the log holds a report that is no JSON object")
    return document


def outcome_of(document: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `as_json` was made of.

    Raises:
        ReportError: something is missing, or is not what it should be; the other side may be of another version.
    """
    try:
        return _outcome(document)
    except Exception as error:  # noqa: BLE001  hdrhistogram raises what it likes
        raise ReportError(f"not a report of this version of streamsim: {error!r}") from None


def _outcome(document: Mapping[str, Any]) -> Outcome:
    encoded = document["hdrhistogram"]
    return Outcome(
        _summary(document),
        Measured(
            from_planned=Latency.decoded(encoded["from_planned"]),
            from_sent=Latency.decoded(encoded["from_sent"]),
            schedule_lag=Latency.decoded(encoded["schedule_lag"]),
            seconds=[Second(**each) for each in document["timeline"]],
        ),
        Verdict(document["exit_code"], document["reason"]),
        [Fact(name, each["value"], each["unit"]) for name, each in document["service"].items()],
        dict(document["settings"]),
        document["generator_bottleneck"] or "",
    )


def _summary(document: Mapping[str, Any]) -> Summary:
    return Summary(
        started_at=document["started_at"],
        elapsed=document["elapsed_s"],
        interrupted=document["interrupted"],
        earlier=document["owed_by_earlier_runs"],
        held=document["held_by_journal"],
        totals=Totals(**{name: document[name] for name in Totals._fields}),
        timings=Timings(**{name: Quantiles(**each) for name, each in document["milliseconds"].items()}),
    )

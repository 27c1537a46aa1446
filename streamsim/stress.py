"""A load test: a high open-loop rate for a while, truth alongside, and a verdict against thresholds."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console

from observability.addresses import without_user
from streamsim.arrivals import Schedule
from streamsim.display import Output, screen_for, show_summary
from streamsim.environ import token_of
from streamsim.errors import OutputError
from streamsim.rows import Rows, unused_lap
from streamsim.run import Plan, launch
from streamsim.scrapes import scrape_of
from streamsim.service_view import Look, read_metrics, service_view
from streamsim.source import load
from streamsim.stress_document import printed
from streamsim.stress_report import Outcome, as_html, as_json, measured, shown
from streamsim.summary import COULD_NOT_RUN, MET, MISSED, Summary, Verdict, disagreement, undelivered
from streamsim.tally import Tally
from streamsim.timeline import Timeline

LAG_LIMIT_MS: Final = 10.0
"""A generator that is later than this for 1 % of its requests measures itself."""
PRINTED: Final = Path("-")
"""`--report -`: no folder, the JSON goes to the output, for whoever can read that alone."""


class Thresholds(NamedTuple):
    """What the service has to keep: p99 from the planned send time in milliseconds, failed records in percent."""

    p99_ms: float
    error_percent: float


def stress(options: argparse.Namespace) -> int:
    """Do one load test, write its report, and return the exit code.

    Raises:
        SimulatorError: it could not run.
    """
    if options.report != PRINTED:
        return _stress(options, options.report)
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        return _stress(options, Path(folder))


def _stress(options: argparse.Namespace, folder: Path) -> int:
    scrape, token = scrape_of(options, os.environ), token_of(os.environ, options.url)
    plan = replace(stress_plan(options, load(options.data, options.seed), folder), scrape=scrape, token=token)
    tally, console = Tally(timeline=Timeline()), Output()
    before = Look(time.monotonic(), read_metrics(plan.url, token))
    summary = launch(plan, screen_for(console), tally)
    view = service_view(before, Look(time.monotonic(), read_metrics(plan.url, token)))
    verdict = judge_stress(summary, Thresholds(options.p99, options.errors))
    outcome = Outcome(summary, measured(tally), verdict, view, settings(options), generator_note(summary))
    show_summary(console, summary)
    _show_view(console, outcome)
    if options.report == PRINTED:
        console.out(printed(as_json(outcome)), highlight=False)
    else:
        write(folder, as_json(outcome), as_html(outcome))
        console.out(f"report: {folder / 'report.html'}", highlight=False)
    for line in filter(None, (outcome.note, verdict.reason)):
        print(f"streamsim: {line}", file=sys.stderr)
    return verdict.exit_code


def stress_plan(options: argparse.Namespace, rows: Rows, folder: Path) -> Plan:
    """Turn parsed options into a plan, with a journal in `folder`."""
    on, off = options.burst or (options.duration, 0.0)
    schedule = Schedule(
        options.rps,
        on,
        off,
        duration=options.duration,
        ramp=options.ramp,
        poisson=options.seed if options.arrivals == "poisson" else None,
    )
    return Plan(
        url=options.url,
        schedule=schedule,
        journal=folder / "owed.db",
        rows=rows,
        first_lap=unused_lap(),  # a service that has run before gets ids that it has not seen yet
        feedback_delay=options.feedback_delay,
        timeout=options.timeout,
        retry=options.retry,
        max_in_flight=options.concurrency,
    )


def judge_stress(summary: Summary, thresholds: Thresholds) -> Verdict:
    """Decide the exit code: 1 when nothing was measured, 99 with every threshold that was missed, else 0."""
    totals, p99 = summary.totals, summary.timings.from_planned.p99
    if wrong := disagreement(summary):
        return Verdict(COULD_NOT_RUN, wrong)
    if not totals.acknowledged:
        return Verdict(COULD_NOT_RUN, "not one prediction was acknowledged; is the service running at --url?")
    missed = []
    if p99 is not None and p99 > thresholds.p99_ms:
        missed.append(f"p99 from planned send {p99:.1f} ms, allowed are {thresholds.p99_ms:g} ms")
    if summary.error_percent > thresholds.error_percent:
        missed.append(f"{summary.error_percent:.3g} % errors, allowed are {thresholds.error_percent:g} %")
    missed += undelivered(summary)
    return Verdict(MISSED, "missed: " + "; ".join(missed)) if missed else Verdict(MET)


def generator_note(summary: Summary) -> str:
    """Say that the generator was the bottleneck, if it was; else an empty text."""
    lag = summary.timings.schedule_lag.p99
    if lag is None or lag <= LAG_LIMIT_MS:
        return ""
    return (
        f"the generator itself was the bottleneck: it was {lag:.1f} ms behind its schedule at p99 "
        f"(limit {LAG_LIMIT_MS:g} ms), so these latencies say little about the service; "
        "lower the rate or give it a core of its own"
    )


def settings(options: argparse.Namespace) -> dict[str, str]:
    """Return the options of the run as texts for the report, with their units."""
    given = {**vars(options), "url": without_user(options.url)}
    values = {name.replace("_", " "): value for name, value in given.items() if name != "command"}
    units = {"rps": "", "errors": " %", "p99": " ms"}
    return {name: _setting(value, units.get(name, " s")) for name, value in values.items() if value is not None}


def _setting(value: object, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "/".join(f"{each:g}" for each in value) + unit
    return f"{value:g}{unit}" if isinstance(value, float) else str(value)


def _show_view(console: Console, outcome: Outcome) -> None:
    if not outcome.view:
        console.out("The service shows no metrics.", highlight=False)
        return
    console.out("\nThe service's own view:", highlight=False)
    width = max(len(fact.name) for fact in outcome.view)
    for fact in outcome.view:
        console.out(f"{fact.name:<{width}}  {shown(fact)}", highlight=False)


def write(folder: Path, document: Mapping[str, Any], page: str) -> None:
    """Write a report into its folder.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(document, indent=2) + "\n")
        (folder / "report.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: the report cannot be written: {error.strerror}") from None

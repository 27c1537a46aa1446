"""The whole loop once: holdout, train, serve, stream with truth five seconds late, and compare the numbers.

Everything runs in processes of its own and over HTTP, as in production; only the delay is shorter.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from observability.addresses import without_user
from streamsim.arrivals import Schedule
from streamsim.compare import Line, compare, parse
from streamsim.display import Output, screen_for, show_summary
from streamsim.environ import token_of
from streamsim.errors import DemoFailed, SimulatorError
from streamsim.report import compute, read_record
from streamsim.rows import unused_lap
from streamsim.run import Plan, launch
from streamsim.service import fetch, started_service, tail
from streamsim.source import DEFAULT_DATA, load
from streamsim.summary import COULD_NOT_RUN, MET, disagreement

FEEDBACK_DELAY_S: Final = 5.0
SEED: Final = 0
RECORD: Final = "record.ndjson"


def demo(duration: float, url: str | None) -> int:
    """Run the demonstration, against the service at `url` or one of its own; 0 when all numbers agree, else 1.

    Raises:
        SimulatorError: a step failed.
    """
    console, token = Output(), token_of(os.environ, url or "")
    _interrupt_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="streamsim-") as folder, ExitStack() as running:
        scratch, log = Path(folder), Path(folder, "service.log")
        at = _serve(console, running, log) if url is None else url
        try:
            # A service that has run before gets ids that it has not seen yet.
            plan = _plan(at, scratch, duration, first_lap=0 if url is None else unused_lap())
            lines = _stream_and_compare(console, replace(plan, token=token), scratch / RECORD)
        except SimulatorError as error:
            raise DemoFailed(f"{error}\n{tail(log) if log.exists() else ''}".rstrip()) from None
        if url is None:
            _step(console, "6/6 stop the service")
    agreed = all(line.agrees for line in lines)
    console.print("All numbers agree." if agreed else "The numbers do not agree.", style="green" if agreed else "red")
    return MET if agreed else COULD_NOT_RUN


def _serve(console: Console, running: ExitStack, log: Path) -> str:
    """Train and start a service that `running` stops; returns its URL."""
    _step(console, "1/6 holdout: rows the model will not see")
    _python(["-m", "calsvc.training.holdout"])
    _step(console, "2/6 train: the handout's own train.py, then the export of a bundle")
    _python(["-m", "calsvc.training.train"])
    _step(console, "3/6 serve")
    settings = {
        "CALSVC_FEEDBACK_DELAY": f"{FEEDBACK_DELAY_S:g}",
        "CALSVC_DRAIN_DELAY": "0",
        "CALSVC_STORE": f"sqlite:///{log.with_name('waiting.db')}",
    }
    return running.enter_context(started_service(log, settings))


def _plan(url: str, scratch: Path, duration: float, first_lap: int) -> Plan:
    return Plan(
        url=url,
        schedule=Schedule(rps=20, on=5, off=5, duration=duration),
        journal=scratch / "owed.db",
        rows=load(DEFAULT_DATA, SEED),
        first_lap=first_lap,
        feedback_delay=FEEDBACK_DELAY_S,
        record=scratch / RECORD,
    )


def _stream_and_compare(console: Console, plan: Plan, record: Path) -> list[Line]:
    _step(console, f"4/6 stream to {without_user(plan.url)}: bursts of 20/s, each truth {FEEDBACK_DELAY_S:g} s later")
    before = parse(fetch(f"{plan.url}/metrics", plan.token))
    summary = launch(plan, screen_for(console))
    _interrupt_on_sigterm()  # the event loop has put the default back
    show_summary(console, summary)
    if wrong := disagreement(summary):
        raise DemoFailed(wrong)
    if summary.interrupted:
        raise DemoFailed("interrupted: there is nothing to compare")
    _step(console, "5/6 compare the service's numbers with the record of what was sent")
    lines = compare(before, parse(fetch(f"{plan.url}/metrics", plan.token)), compute(read_record(record)))
    console.print(_table(lines))
    return lines


def _interrupt_on_sigterm() -> None:
    """Let SIGTERM unwind like Ctrl-C, so that the service is stopped on the way out."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _step(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]", highlight=False)


def _python(arguments: Sequence[str]) -> None:
    if (status := subprocess.run([sys.executable, *arguments], check=False).returncode) != 0:
        raise DemoFailed(f"python {' '.join(arguments)} ended with status {status}: see above")


def _table(lines: Sequence[Line]) -> Table:
    table = Table("number", "service", "offline", "difference", "verdict")
    for line in lines:
        verdict = "[green]agrees[/green]" if line.agrees else f"[red]not within {line.tolerance:g}[/red]"
        table.add_row(line.name, _text(line.service), _text(line.offline), _text(line.difference, ".1e"), verdict)
    return table


def _text(value: float | None, form: str = ".8g") -> str:
    return "absent" if value is None else format(value, form)

"""What a person sees: live on a terminal, a line every few seconds elsewhere, a table at the end in both."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamsim.latency import Quantiles
from streamsim.summary import Progress, Summary
from streamsim.tally import Totals

LIVE_EVERY_S: Final = 0.5
LINE_EVERY_S: Final = 5.0

Row = tuple[str, str]


class Output(Console):
    """Standard output. When the program that reads it ends, as `head` does, it is quiet from then on."""

    def on_broken_pipe(self) -> None:
        """Lead what is still written nowhere; Console itself would end the process in the middle of a run."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class LiveScreen:
    """A block on a terminal, redrawn twice a second."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def watch(self, progress: Callable[[], Progress]) -> None:
        """Redraw until cancelled."""
        before = progress()
        # Drawn by this task alone: a refresh thread of its own would disturb the schedule.
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                now = progress()
                live.update(_table(progress_rows(now, sent_rate(before, now))), refresh=True)
                before = now
                await anyio.sleep(LIVE_EVERY_S)


class LineScreen:
    """One plain line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def watch(self, progress: Callable[[], Progress]) -> None:
        """Print until cancelled, or until the output is closed."""
        before = progress()
        while not self._console.quiet:
            await anyio.sleep(LINE_EVERY_S)
            now = progress()
            self._console.out(progress_line(now, sent_rate(before, now)), highlight=False)
            before = now


def screen_for(console: Console) -> LiveScreen | LineScreen:
    """Choose the display that fits where the output goes."""
    return LiveScreen(console) if console.is_terminal else LineScreen(console)


def show_summary(console: Console, summary: Summary) -> None:
    """Print the closing table: boxed on a terminal, aligned plain text elsewhere."""
    rows = summary_rows(summary)
    if console.is_terminal:
        console.print(_table(rows))
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.out(f"{name:<{width}}  {value}".rstrip(), highlight=False)


def sent_rate(before: Progress, now: Progress) -> float:
    """Return the records per second that left between two snapshots."""
    seconds = now.elapsed - before.elapsed
    return (now.totals.sent - before.totals.sent) / seconds if seconds > 0 else 0.0


def progress_rows(now: Progress, rate: float) -> list[Row]:
    """Say where the run stands, as (name, value) pairs that fit 80 columns."""
    totals = now.totals
    burst = "" if not now.next_burst else f", next burst in {now.next_burst:.0f} s"
    return [
        ("elapsed", f"{now.elapsed:.0f} s{burst}"),
        ("rate", f"{now.planned_rate:g}/s planned, {rate:.1f}/s sent"),
        ("in flight", str(totals.in_flight)),
        ("latency from planned send", _quantiles(now.timings.from_planned)),
        ("predictions", f"{totals.sent} sent, {totals.acknowledged} acknowledged"),
        ("truths", f"{totals.owed} owed, {sum(totals.delivered.values())} delivered, {_given_up(totals)} given up"),
        ("errors", _counts({**totals.errors, **({"not_sent": totals.not_sent} if totals.not_sent else {})})),
        ("predictions tried again", _counts(totals.prediction_retries)),
        ("deliveries tried again", _counts(totals.retries)),
    ]


def progress_line(now: Progress, rate: float) -> str:
    """Say the same in one line."""
    totals, latency = now.totals, now.timings.from_planned
    return (
        f"{now.elapsed:.0f}s planned={now.planned_rate:g}/s sent={rate:.1f}/s in_flight={totals.in_flight} "
        f"p50={_ms(latency.p50)} p95={_ms(latency.p95)} p99={_ms(latency.p99)} acknowledged={totals.acknowledged} "
        f"retried={sum(totals.prediction_retries.values())} owed={totals.owed} "
        f"delivered={sum(totals.delivered.values())} given_up={_given_up(totals)} errors={totals.failed}"
    )


def summary_rows(summary: Summary) -> list[Row]:
    """Say what the run came to, so that the parts of each total can be added up by eye."""
    totals = summary.totals
    delivered = sum(totals.delivered.values())
    rows = [
        ("ran for", f"{summary.elapsed:.1f} s{', interrupted' if summary.interrupted else ''}"),
        ("planned", f"{totals.planned} = {totals.sent} sent + {totals.not_sent} not sent"),
        (
            "sent",
            _sum(totals.sent, {"acknowledged": totals.acknowledged, **totals.errors, "cut off": totals.interrupted}),
        ),
        ("predictions tried again", _counts(totals.prediction_retries)),
        (
            "truths taken on",
            _sum(
                totals.acknowledged + totals.resumed + totals.interrupted,
                {"acknowledged": totals.acknowledged, "resumed": totals.resumed, "cut off": totals.interrupted},
            ),
        ),
        ("", f"= {delivered} delivered + {totals.owed} owed + {_given_up(totals)} given up"),
        ("delivered", _sum(delivered, totals.delivered)),
        ("given up", _counts(totals.given_up)),
        ("deliveries tried again", _counts(totals.retries)),
        ("errors", f"{summary.error_percent:.3g} %"),
        ("latency from planned send", _quantiles(summary.timings.from_planned)),
        ("latency from actual send", _quantiles(summary.timings.from_sent)),
        ("simulator behind schedule", _quantiles(summary.timings.schedule_lag)),
    ]
    if totals.resent:
        rows.append(("sent again, idle connection", str(totals.resent)))
    return rows


def _given_up(totals: Totals) -> int:
    return sum(totals.given_up.values())


def _table(rows: list[Row]) -> Table:
    table = Table(show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for row in rows:
        table.add_row(*row)
    return table


def _sum(total: int, parts: Mapping[str, int]) -> str:
    return f"{total} = {' + '.join(f'{count} {name}' for name, count in parts.items() if count) or '0'}"


def _counts(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in parts.items() if count) or "none"


def _quantiles(found: Quantiles) -> str:
    if not found.samples:
        return "none yet"
    return f"p50 {_ms(found.p50)}, p95 {_ms(found.p95)}, p99 {_ms(found.p99)}, max {_ms(found.max)}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}ms"

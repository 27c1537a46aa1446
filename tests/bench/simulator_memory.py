"""What the simulator takes with two hours of truths owed at 20/s: `python tests/bench/simulator_memory.py [CSV]`.

Uses the real loader, client, scheduler, journal, metrics and display; prints resident memory step by step, the cost of
the journal's writes and of a scrape, and exits with 1 when the limit is passed.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from rich.live import Live

import streamsim.__main__  # noqa: F401  everything that `stream` imports
from streamsim.books import Books
from streamsim.client import open_client
from streamsim.clocks import Clocks
from streamsim.display import show_summary
from streamsim.feedback import FeedbackScheduler
from streamsim.journal import open_journal
from streamsim.metrics import open_metrics
from streamsim.record import open_record
from streamsim.rows import Rows
from streamsim.source import load
from streamsim.summary import Now, Summary
from streamsim.tally import Tally

OWED = 144_000
DELAY_S = 7_200.0
LIMIT_MIB = 100.0
ROWS = 15_000
REMOVED = 50_000


def resident_mib() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def generated_csv(folder: Path) -> Path:
    """As many rows as a large holdout has, where no file is given."""
    lines = ["id,Sex,Age,Height,Weight,Duration,Heart_Rate,Body_Temp,Calories"]
    lines += [f"{i},female,{20 + i % 60},170.5,70.5,{1 + i % 30},{67 + i % 60},40.1,{i % 300}.0" for i in range(ROWS)]
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def microseconds(work: Callable[[], object], count: int) -> float:
    """Time per call."""
    started = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - started) / count * 1e6


def scrape_ms(registry: CollectorRegistry) -> float:
    """Milliseconds for one scrape, the median of some."""
    return statistics.median(microseconds(lambda: generate_latest(registry), 1) for _ in range(9)) / 1e3


def removals_us(path: Path) -> list[float]:
    """Time for the removal of each of many rows, which gives back most of the file; ascending."""
    with open_journal(path) as journal:
        rows = [journal.intend(f'"{n}.1"', n + 0.5, 1e9 + n / 20, 1e9 + n / 20 + DELAY_S) for n in range(REMOVED)]
        return sorted(microseconds(lambda row=row: journal.forget(row), 1) for row in rows)  # type: ignore[misc]


async def owe_two_hours(rows: Rows, folder: Path, table: list[tuple[str, float]]) -> tuple[float, float, float]:
    """Owe every truth as a run does after its acknowledgement.

    Returns microseconds for the journal's two writes, and milliseconds for a scrape: with none due, with all overdue.
    """
    now, tally = [0.0], Tally()
    clocks = Clocks(monotonic=lambda: now[0])
    with open_journal(folder / "owed.db") as journal, open_record(folder / "record.ndjson", append=False) as recorder:
        async with open_client("http://127.0.0.1:1", 10) as client, anyio.create_task_group() as group:
            scheduler = FeedbackScheduler(client, Books(journal, recorder, tally), clocks, 3600.0)
            group.start_soon(scheduler.run, group)
            table.append(("client, scheduler and journal open", resident_mib()))
            registry, tally.buckets = open_metrics(
                "stream", lambda: Now(0.0, tally.totals(0), scheduler.deliveries(), {})
            )
            scrape_ms(registry)
            table.append(("metrics, with their server, scraped", resident_mib()))
            spent = 0.0
            for number in range(OWED):
                record, wall = rows.record(number), clocks.wall()
                started = time.perf_counter()
                row = journal.intend(record.id_json, record.truth, wall, wall + DELAY_S)
                journal.acknowledge(row, 100.0, wall, wall + DELAY_S)
                spent += time.perf_counter() - started
                scheduler.owe(row, DELAY_S)
                if number % 1000 == 0:
                    await anyio.lowlevel.checkpoint()
            with Live(console=Console(), auto_refresh=False, transient=True):
                show_summary(Console(quiet=True), Summary(0, 0, False, 0, 0, tally.totals(0), tally.timings()))
            table.append((f"{len(journal):,} truths owed", resident_mib()))
            quiet = scrape_ms(registry)
            now[0] += DELAY_S + 1  # the scheduler sleeps and does not see it
            overdue = scrape_ms(registry)
            assert scheduler.deliveries().due == OWED
            group.cancel_scope.cancel()
    return spent / OWED * 1e6, quiet, overdue


def main() -> int:
    """Print the table."""
    table = [("start, everything imported", resident_mib())]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = load(Path(sys.argv[1]) if len(sys.argv) > 1 else generated_csv(folder), 0)
        table.append((f"{len(rows):,} rows loaded", resident_mib()))
        writes, quiet, overdue = anyio.run(owe_two_hours, rows, folder, table, backend_options={"use_uvloop": True})
        with open_journal(folder / "costs.db") as journal:
            row = journal.intend("1", 1.0, 0.0, 0.0)
            read = microseconds(lambda: journal.get(row), 10_000)
            both = microseconds(lambda: journal.forget(journal.intend("1", 1.0, 0.0, 0.0)), 10_000)
        removals = removals_us(folder / "shrinking.db")
    passed = table[-1][1] <= LIMIT_MIB
    print("| simulator, resident | MiB |\n|---|---|")
    for step, mib in table:
        print(f"| {step} | {mib:.0f} |")
    print(f"| limit | {LIMIT_MIB:g}{'' if passed else ' (MISSED)'} |\n\n| its journal | us |\n|---|---|")
    print(f"| write intent and acknowledge | {writes:.1f} |\n| read one row | {read:.1f} |")
    print(f"| write intent and remove | {both:.1f} |")
    print(f"| remove one of {REMOVED:,} rows, their pages given back meanwhile | {statistics.mean(removals):.1f} |")
    print(f"| one in a hundred of these takes longer than | {removals[-REMOVED // 100]:.1f} |")
    print(f"| the longest of them | {removals[-1]:.0f} |\n\n| a scrape | ms |\n|---|---|")
    print(f"| {OWED:,} truths owed, none due | {quiet:.1f} |\n| all of them overdue | {overdue:.1f} |")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())

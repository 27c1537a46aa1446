"""What waiting predictions cost: a request, and a scrape, while a thousand, ten thousand, a hundred thousand wait."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from calsvc.settings import Settings
from observability import signals
from tests.bench import part
from tests.bench.asking import get
from tests.bench.figures import Spread, shown, spread, table
from tests.bench.load import Plan, Void, Window
from tests.bench.measure import Figures, awake, figures, in_turns, loaded_server, remarks
from tests.bench.processes import Cores, Server, cpu_seconds, serving, two_cores
from tests.bench.rungs import UNSAMPLED, Rung, program
from tests.bench.workouts import rows, templates

COUNTS: Final = (1_000, 10_000, 100_000)
FORMATS: Final = {"text": "text/plain", "OpenMetrics": "application/openmetrics-text; version=1.0.0"}
SCRAPES: Final = 10


class Scrape(Struct):
    """One form of /metrics: the service's CPU milliseconds, and KiB."""

    cpu_ms: Spread | None
    kib: float


class Pending(Struct):
    """The result, by the number of predictions that wait."""

    rounds: int
    cores: Cores
    requests: list[Figures]
    scrapes: dict[str, dict[str, Scrape]]


def measure(options: part.Options) -> Pending:
    """Let as many predictions wait, then ask for the same ones again: each replaces itself, and their number stays.

    Raises:
        Void: a request was not answered with 200, or another number of predictions waits at the end.
    """
    cores = two_cores()
    run = program(Rung("service", ("calsvc",), UNSAMPLED), 0, Settings.from_env(os.environ).bundle_path)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {
            f"{count:,} waiting": stack.enter_context(serving(run, Path(folder), cores.server)) for count in COUNTS
        }
        counts = dict(zip(servers, COUNTS, strict=True))
        windows = _windows(servers, counts, options, cores)
        scrapes = {name: _scrapes(server, options.rounds) for name, server in servers.items()}
        for name, server in servers.items():
            with awake(server):
                _demand_waiting(server, counts[name])
    return Pending(options.rounds, cores, figures(windows), scrapes)


def _windows(
    servers: Mapping[str, Server], counts: Mapping[str, int], options: part.Options, cores: Cores
) -> dict[str, list[Window]]:
    requests = templates(rows())
    filled = set()

    def run(name: str, _turn: int) -> Window:
        server, count = servers[name], counts[name]
        plan = Plan(port=server.port, pid=server.pid, templates=requests, different_ids=count)
        if name not in filled:
            filled.add(name)
            plan.warmup, plan.seconds, plan.limit = 0.0, 300.0, count
            loaded_server(server, plan, cores.generator)
        plan.warmup, plan.seconds, plan.limit = options.warmup, options.seconds, 0
        return loaded_server(server, plan, cores.generator)

    return in_turns(servers, options.rounds, run, part.say)


def _scrapes(server: Server, rounds: int) -> dict[str, Scrape]:
    with awake(server):
        sizes = {name: len(get(server.port, "/metrics", accept)) for name, accept in FORMATS.items()}
        costs: dict[str, list[float]] = {name: [] for name in FORMATS}
        for _ in range(rounds):
            for name, accept in FORMATS.items():
                if (cost := _cpu_of_scrapes(server, accept)) is not None:
                    costs[name].append(cost)
    return {name: Scrape(spread(costs[name]) if costs[name] else None, sizes[name] / 1024) for name in FORMATS}


def _cpu_of_scrapes(server: Server, accept: str) -> float | None:
    """Return CPU milliseconds of one of several scrapes."""
    before = cpu_seconds(server.pid)
    for _ in range(SCRAPES):
        get(server.port, "/metrics", accept)
    after = cpu_seconds(server.pid)
    return None if before is None or after is None else (after - before) / SCRAPES * 1e3


def _demand_waiting(server: Server, count: int) -> None:
    families = text_string_to_metric_families(get(server.port, "/metrics").decode())
    waiting = next(
        sample.value for family in families for sample in family.samples if sample.name == signals.PENDING.exposed
    )
    if waiting != count:
        raise Void(f"{waiting:,.0f} predictions wait, {count:,} should")


def markdown(result: Pending) -> str:
    """Return the table and what to know about it."""
    lines = [
        ["requests/s", *(shown(each.requests_per_second, ",.0f") for each in result.requests)],
        ["of the first", *(shown(each.share, ".0%") for each in result.requests)],
        ["CPU us a request", *(shown(each.cpu_us, ".1f") if each.cpu_us else "" for each in result.requests)],
        *(line for form in FORMATS for line in _scrape_lines(form, list(result.scrapes.values()))),
    ]
    note = (
        f"Medians of {result.rounds} interleaved rounds (lowest..highest), 16 connections, metrics on, traces off. "
        f"{result.cores} Every request replaces a prediction that waits, so that their number stays."
    )
    header = ["", *(each.name for each in result.requests)]
    notes = remarks(result.requests) if result.cores.server is not None else []
    return "\n\n".join([table(header, lines), note, *notes])


def _scrape_lines(form: str, scrapes: Sequence[Mapping[str, Scrape]]) -> list[list[str]]:
    costs = [each[form].cpu_ms for each in scrapes]
    return [
        [f"a scrape, {form}: CPU ms", *(shown(cost, ".1f") if cost else "" for cost in costs)],
        [f"a scrape, {form}: KiB", *(f"{each[form].kib:.1f}" for each in scrapes)],
    ]


if __name__ == "__main__":
    sys.exit(part.main("pending", measure, markdown, Void))

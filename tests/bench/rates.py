"""What a call costs while the service is not busy all the time: at fixed rates, and with few connections.

The ladder's server never rests, and so reads and writes many calls in one turn of its event loop. One that waits for
each call wakes up for it, and pays for that. docs/capacity.md needs both ends, and what lies between them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct

from calsvc.settings import Settings
from tests.bench import part
from tests.bench.asking import collects
from tests.bench.figures import Spread, rotated, shown, spread, table
from tests.bench.load import Plan, Void
from tests.bench.measure import loaded_server
from tests.bench.processes import ROOT, Cores, Program, Server, cpu_seconds, environment, on_core, serving, two_cores
from tests.bench.rungs import LADDER, program
from tests.bench.workouts import rows, templates

RECORDS: Final = (10, 100, 500, 1_500)
"""A second, from the simulator: each is a prediction and, a second later, its truth."""
CONNECTIONS: Final = (1, 2, 4)
"""Of the closed loop, predictions alone."""
LATE_MS: Final = 100.0
"""At p99. A generator that is later than that sends what it is late with all at once, which costs less."""
DATA: Final = ROOT / "data" / "holdout" / "stream.csv"


class Rate(Struct):
    """One load: calls a second that were answered, and CPU microseconds of each."""

    load: str
    calls: Spread
    cpu_us: Spread


class Rates(Struct):
    """The result."""

    rounds: int
    seconds: float
    cores: Cores
    rung: str
    rates: list[Rate]


def measure(options: part.Options) -> Rates:
    """Measure every load in every round.

    Raises:
        Void: a call failed, or the system does not tell CPU time.
    """
    if _wanted("records", options) and not DATA.exists():
        raise Void("there are no held-out rows: just holdout")
    cores, rung, model = two_cores(), LADDER[-1], Settings.from_env(os.environ).bundle_path
    found: dict[str, list[tuple[float, float]]] = {}
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        collector = stack.enter_context(serving(Program(("tests.bench.sink",), {}, collects), folder, cores.generator))
        server = stack.enter_context(serving(program(rung, collector.port, model, folder), folder, cores.server))
        loads = _loads(server, options, cores, folder)
        for turn in range(options.rounds):
            for load in rotated(list(loads), turn):
                found.setdefault(load, []).append(loads[load](turn))
                part.say(f"round {turn + 1} of {options.rounds}: {load}")
    return Rates(options.rounds, options.seconds, cores, rung.name, [_rate(load, found[load]) for load in loads])


def _loads(
    server: Server, options: part.Options, cores: Cores, folder: Path
) -> dict[str, Callable[[int], tuple[float, float]]]:
    """Return by name what measures a load: calls a second, and CPU microseconds of each."""

    def records(rps: int) -> Callable[[int], tuple[float, float]]:
        return lambda _turn: _simulated(server, rps, 5 * options.seconds, (cores, folder))

    def connections(number: int) -> Callable[[int], tuple[float, float]]:
        plan = Plan(port=server.port, pid=server.pid, templates=templates(rows()), connections=number)
        plan.warmup, plan.seconds = options.warmup, options.seconds

        def run(turn: int) -> tuple[float, float]:
            plan.turn = turn * len(CONNECTIONS) + CONNECTIONS.index(number)
            window = loaded_server(server, plan, cores.generator)
            if window.server_cpu is None:
                raise Void("CPU time of other processes is not told here")
            return window.requests / window.seconds, window.server_cpu / window.requests * 1e6

        return run

    found = {f"{each:,} records/s": records(each) for each in RECORDS if _wanted("records", options)}
    for each in CONNECTIONS if _wanted("connections", options) else ():
        found[f"{each} connection{'s' if each > 1 else ''}, closed loop"] = connections(each)
    return found


def _wanted(kind: str, options: part.Options) -> bool:
    """Tell whether loads of a kind are measured: `--only connections` needs no generator that is on time."""
    return not options.only or kind in options.only


def _simulated(server: Server, rps: int, seconds: float, around: tuple[Cores, Path]) -> tuple[float, float]:
    """Let the simulator send records for so long, and their truth."""
    cores, folder = around
    command = [sys.executable, "-m", "streamsim", "stress", str(rps), "--duration", str(seconds)]
    command += ["--feedback-delay", "1", "--url", f"http://127.0.0.1:{server.port}", "--data", str(DATA)]
    command += ["--report", str(folder / "stress"), "--metrics-port", "0", "--p99", "3600s", "--errors", "0"]
    before = cpu_seconds(server.pid)
    with on_core(cores.generator):
        run = subprocess.run(command, cwd=ROOT, env=environment({}), capture_output=True, text=True, check=False)
    after = cpu_seconds(server.pid)
    if run.returncode != 0 or before is None or after is None:
        raise Void(f"{rps} records/s: {run.stderr.strip() or 'CPU time of other processes is not told here'}")
    document = json.loads((folder / "stress" / "report.json").read_text())
    if (late := document["milliseconds"]["schedule_lag"]["p99"]) > LATE_MS:
        raise Void(f"{rps} records/s: the generator was {late:,.0f} ms late: something else had its core")
    calls = document["acknowledged"] + sum(document["delivered"].values())
    return calls / seconds, (after - before) / calls * 1e6


def _rate(load: str, found: Sequence[tuple[float, float]]) -> Rate:
    return Rate(load, spread(calls for calls, _ in found), spread(cpu for _, cpu in found))


def markdown(rates: Rates) -> str:
    """Return the table and what to know about it."""
    lines = [
        [
            each.load,
            shown(each.calls, ",.0f"),
            shown(each.cpu_us, ".1f"),
            f"{each.calls.median * each.cpu_us.median / 1e6:.1%}",
        ]
        for each in rates.rates
    ]
    note = (
        f"Medians of {rates.rounds} rounds (lowest..highest), {5 * rates.seconds:g} s of records, a prediction and a "
        f"truth each, or {rates.seconds:g} s of a closed loop of predictions. The service is that of the rung "
        f"*{rates.rung}*. {rates.cores}"
    )
    header = ["load", "calls/s", "CPU us a call", "share of a core"]
    return "\n\n".join([table(header, lines), note])


if __name__ == "__main__":
    sys.exit(part.main("rates", measure, markdown, Void))

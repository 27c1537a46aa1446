"""What requests notice when a collector, Prometheus or Pyroscope is lost: failures, and latency of an open loop.

All of them are real, and built first where they are not (docs/profiles.md). They share the generator's core. Every
round loses each of them once, between two phases in which all are there: the second says what is chance. Half a second
in which the machine does something else decides the p99 of a phase, so phases are compared by that of a typical second.
"""

import csv
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from msgspec import Struct

from calsvc.settings import Settings
from tests.bench import part
from tests.bench.asking import get, predicts
from tests.bench.figures import Spread, ratios, rotated, shown, spread, table
from tests.bench.load import Void
from tests.bench.processes import ROOT, Cores, Program, Server, environment, on_core, serving, two_cores
from tests.bench.rungs import SERVICE
from tests.bench.workouts import rows
from tests.go_programs import COLLECTOR, PYROSCOPE, BuildFailed
from tests.live.backends import Backend, running_scraper, running_sinks

RATE: Final = 500
"""Predictions a second; as many truths, a second later."""
LENGTH: Final = 4
"""Times --seconds: how long one phase is."""
ALIVE: Final = "all there"
BACK: Final = "all there again"


class Loss(NamedTuple):
    """Which backends are lost, and how."""

    lost: Sequence[str]
    how: signal.Signals


LOSSES: Final = {
    "collector killed": Loss(["collector"], signal.SIGKILL),
    "Prometheus killed": Loss(["prometheus"], signal.SIGKILL),
    "Pyroscope killed": Loss(["pyroscope"], signal.SIGKILL),
    "all three killed": Loss(["collector", "prometheus", "pyroscope"], signal.SIGKILL),
    "all three hang": Loss(["collector", "prometheus", "pyroscope"], signal.SIGSTOP),
}


class Seen(NamedTuple):
    """One phase: records, failures, latency of predictions from the planned moment, in ms, and spans that were lost.

    `typical`: the median of the p99 of each second.
    """

    records: int
    failed: int
    p50: float
    p99: float
    typical: float
    spans_lost: int


class Phase(Struct):
    """The same phase of all rounds. `ratio`: of its typical p99 to that of the round's first phase."""

    name: str
    records: int
    failed: int
    p50: Spread
    p99: Spread
    typical: Spread
    ratio: Spread
    spans_lost: int


class Outage(Struct):
    """The result."""

    rounds: int
    seconds: float
    rate: int
    cores: Cores
    phases: list[Phase]


def measure(options: part.Options) -> Outage:
    """Lose each of them in every round.

    Raises:
        Void: a backend cannot be had, or the generator could not run.
    """
    _demand_backends()
    cores, seen = two_cores(), dict[str, list[Seen]]()
    with TemporaryDirectory() as name, on_core(cores.generator):
        folder = Path(name)
        _write_rows(folder / "rows.csv")
        with running_sinks(folder) as sinks:
            environ = {**SERVICE, **sinks.environ, "CALSVC_MODEL": str(_model()), "OTEL_BSP_SCHEDULE_DELAY": "5000"}
            with (
                serving(Program(("calsvc",), environ, predicts), folder, cores.server) as server,
                running_scraper(folder, f"http://127.0.0.1:{server.port}") as scraper,
            ):
                backends = {"collector": sinks.collector, "prometheus": scraper, "pyroscope": sinks.pyroscope}
                for turn in range(options.rounds):
                    for phase in (ALIVE, *rotated(list(LOSSES), turn), BACK):
                        part.say(f"round {turn + 1} of {options.rounds}: {phase}")
                        found = _phase(LOSSES.get(phase), backends, server, (folder, options.seconds * LENGTH))
                        seen.setdefault(phase, []).append(found)
    return Outage(options.rounds, options.seconds * LENGTH, RATE, cores, _phases(seen))


def at_hand() -> bool:
    """Tell whether all backends are here and nothing has to be built."""
    return shutil.which("prometheus") is not None and all(each.exists() for each in (COLLECTOR.path, PYROSCOPE.path))


def _demand_backends() -> None:
    if shutil.which("prometheus") is None:
        raise Void("prometheus is missing: apt-get install prometheus")
    try:
        COLLECTOR.built()
        PYROSCOPE.built()
    except BuildFailed as failure:
        raise Void(str(failure)) from None


def _model() -> Path:
    return Settings.from_env(os.environ).bundle_path.resolve()


def _write_rows(file: Path) -> None:
    """Write rows as the simulator reads them. How good the predictions are is not asked here."""
    labelled = [{"id": number, **row, "Calories": 77} for number, row in enumerate(rows())]
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, labelled[0])
        writer.writeheader()
        writer.writerows(labelled)


def _phase(loss: Loss | None, backends: Mapping[str, Backend], server: Server, run: tuple[Path, float]) -> Seen:
    """Lose what is to be lost, load the service, and bring back what was lost."""
    lost = [backends[name] for name in loss.lost] if loss else []
    before = _spans_lost(server)
    for each in lost:
        each.signal(loss.how if loss else signal.SIGCONT)
    try:
        report = _stress(server, *run)
    finally:
        for each in lost:
            if loss and loss.how is signal.SIGKILL:
                each.start()
            else:
                each.signal(signal.SIGCONT)
    time.sleep(1)  # what had waited for them is sent
    latency = report["percentiles"]["from_planned"]
    failed = sum(report["errors"].values()) + sum(report["retries"].values()) + report["not_sent"] + report["owed"]
    typical = statistics.median(each["p99"] for each in report["timeline"] if each["planned"] > RATE / 2)
    return Seen(report["acknowledged"], failed, latency["50"], latency["99"], typical, _spans_lost(server) - before)


def _stress(server: Server, folder: Path, seconds: float) -> Any:
    """Run the simulator's load test; return its report."""
    command = [sys.executable, "-m", "streamsim", "stress", str(RATE), "--duration", f"{seconds:g}"]
    command += ["--feedback-delay", "1", "--url", f"http://127.0.0.1:{server.port}"]
    command += ["--data", str(folder / "rows.csv"), "--report", str(folder / "stress")]
    ended = subprocess.run(command, cwd=ROOT, env=environment({}), capture_output=True, text=True, check=False)
    if ended.returncode not in {0, 99}:  # a missed threshold is for the reader to judge
        raise Void(f"the generator ended with {ended.returncode}: {ended.stderr}{server.epitaph()}")
    report = json.loads((folder / "stress" / "report.json").read_text())
    if report["generator_bottleneck"]:
        part.say(report["generator_bottleneck"])
    return report


def _spans_lost(server: Server) -> int:
    found = re.findall(rb"^calsvc_spans_dropped_total\{.*\} (\S+)$", get(server.port, "/metrics"), re.MULTILINE)
    return int(sum(map(float, found)))


def _phases(seen: Mapping[str, Sequence[Seen]]) -> list[Phase]:
    alive = [each.typical for each in seen[ALIVE]]
    return [
        Phase(
            name=name,
            records=sum(each.records for each in rounds),
            failed=sum(each.failed for each in rounds),
            p50=spread([each.p50 for each in rounds]),
            p99=spread([each.p99 for each in rounds]),
            typical=spread([each.typical for each in rounds]),
            ratio=spread(ratios([each.typical for each in rounds], alive)),
            spans_lost=sum(each.spans_lost for each in rounds),
        )
        for name, rounds in seen.items()
    ]


def markdown(result: Outage) -> str:
    """Return the table and what to know about it."""
    header = ["while", "records", "failed", "p50 ms", "p99 ms", "p99 of a second, ms", "of that before", "spans lost"]
    lines = [
        [
            each.name,
            f"{each.records:,}",
            f"{each.failed:,}",
            shown(each.p50, ".2f"),
            shown(each.p99, ".2f"),
            shown(each.typical, ".2f"),
            shown(each.ratio, ".0%"),
            f"{each.spans_lost:,}",
        ]
        for each in result.phases
    ]
    note = (
        f"Medians of {result.rounds} rounds of {result.seconds:g} s a phase (lowest..highest). {result.rate} "
        "predictions a second at random moments and as many truths; latency is that of predictions, from the planned "
        f"moment. One request in ten is traced, Prometheus scrapes every second. {result.cores}"
    )
    return "\n\n".join([table(header, lines), note])


if __name__ == "__main__":
    sys.exit(part.main("outage", measure, markdown, Void))

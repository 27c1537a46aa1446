"""`just soak`: a steady load for half an hour, and whether memory and files stay what they are and no truth is lost."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from streamsim.compare import total
from tests.bench.figures import table
from tests.bench.machine import Machine, described, machine
from tests.chaos.outcome import Counts, Promise, broken
from tests.chaos.running import ROWS, say, scratch, served_model, tracebacks
from tests.chaos.scene import Scene, metrics
from tests.live.fleet import Replica
from tests.service_process import ROOT

DELAY: Final = 60
"""Seconds from a prediction to its truth: what waits grows until then, and not afterwards."""
LOOK: Final = 5.0
FLAT_MEMORY: Final = 4.0
"""MiB that the service may take more from the second quarter to the last: two for the truths of an hour, and chance."""
FLAT_FILES: Final = 4


class Look(Struct):
    """The service at one moment: minutes from the beginning, MiB, open files, predictions that wait."""

    minute: float
    memory: float
    files: float
    pending: float


class Soak(Struct):
    """The result. `quarters`: means over each quarter of the time."""

    machine: Machine
    rate: int
    minutes: float
    counts: Counts
    quarters: list[Look]
    broken: list[str]


def soak(rate: int, minutes: float, *, keep: bool) -> Soak:
    """Load one service with its default store, and look at it all the time."""
    with scratch(keep=keep) as folder:
        scene, looks = Scene(folder, served_model(), ROWS), list[Look]()
        more = ["--rps", str(rate), "--feedback-delay", str(DELAY)]
        with (
            scene.service(CALSVC_FEEDBACK_DELAY=str(DELAY)) as service,
            scene.load(service.url, [service], 60 * minutes, *more) as load,
        ):
            begun = time.monotonic()
            while (minute := (time.monotonic() - begun) / 60) < minutes:
                looks.append(_look(service, minute))
                if len(looks) % 12 == 0:
                    say(str(looks[-1]))
                time.sleep(LOOK)
        counts = load.counts()
        quarters = _quarters(looks)
        complaints = broken(Promise("", failed=0), counts) + tracebacks(folder) + _grown(quarters)
        return Soak(machine(), rate, minutes, counts, quarters, complaints)


def _look(service: Replica, minute: float) -> Look:
    seen = metrics(service)
    memory, files, pending = (
        total(seen, name) or 0.0
        for name in ("process_resident_memory_bytes", "process_open_fds", "calsvc_pending_predictions")
    )
    return Look(minute, memory / 2**20, files, pending)


def _quarters(looks: Sequence[Look]) -> list[Look]:
    size = len(looks) // 4
    return [_mean(looks[number * size : (number + 1) * size]) for number in range(4)]


def _mean(looks: Sequence[Look]) -> Look:
    def of(name: str) -> float:
        return round(sum(getattr(each, name) for each in looks) / len(looks), 1)

    return Look(of("minute"), of("memory"), of("files"), of("pending"))


def _grown(quarters: Sequence[Look]) -> list[str]:
    """Say what has grown since the second quarter: in the first one everything is new."""
    _, second, _, last = quarters
    found = []
    if (more := last.memory - second.memory) > FLAT_MEMORY:
        found.append(f"memory has grown by {more:.1f} MiB")
    if (files := last.files - second.files) > FLAT_FILES:
        found.append(f"open files have grown by {files:.1f}")
    return found


def markdown(result: Soak) -> str:
    """Return the page."""
    header = ["quarter, around minute", "resident memory, MiB", "open files", "predictions that wait"]
    lines = [[f"{q.minute:g}", f"{q.memory:g}", f"{q.files:g}", f"{q.pending:,.0f}"] for q in result.quarters]
    counts = result.counts
    share = counts.joined / counts.acknowledged
    verdict = "Nothing was promised that did not hold." if not result.broken else f"**{'; '.join(result.broken)}**"
    text = (
        f"{result.rate} predictions a second for {result.minutes:g} minutes, each one's truth {DELAY} s later, against "
        f"one service with its default store: {counts.acknowledged:,} acknowledged, {sum(counts.failed.values())} "
        f"failed, {counts.joined:,} joined with their truth ({share:.2%}), {counts.twice} counted twice. Means of each "
        "quarter:"
    )
    note = (
        "Each truth is kept for CALSVC_FEEDBACK_RETENTION, an hour, to be known again: 24 bytes of memory, here "
        f"{result.rate * 900 * 24 / 2**20:.1f} MiB in a quarter of an hour until the first of them go."
    )
    parts = ["# Half an hour", described(result.machine), text, table(header, lines), note, verdict]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Soak; 1 where something grew or was lost."""
    parser = argparse.ArgumentParser(prog="just soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=100, help="predictions a second, and as many truths")
    parser.add_argument("--docs", action="store_true", help="write to docs/ too")
    parser.add_argument("--keep", action="store_true", help="keep logs and records")
    options = parser.parse_args(arguments)
    result = soak(options.rate, options.minutes, keep=options.keep)
    print(markdown(result))
    folders: list[Path] = [ROOT / "data" / "chaos", *([ROOT / "docs"] if options.docs else [])]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        (folder / "soak.md").write_text(markdown(result), encoding="utf-8")
    return int(bool(result.broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""docs/reliability.md, made of what was seen."""

from typing import Final

from msgspec import Struct

from tests.bench.figures import table
from tests.bench.machine import Machine, described
from tests.chaos.outcome import Seen
from tests.chaos.scene import DELAY, RATE


class Document(Struct):
    """One run. `impossible`: faults that this machine did not let be made, and why."""

    machine: Machine
    seen: dict[str, Seen]
    impossible: dict[str, str]


INTRODUCTION: Final = f"""# Faults, promises, and what was seen

Written by `./justw chaos --docs`, like `reliability.json` beside it. Each fault is made while the simulator sends
{RATE} predictions a second and each one's truth {DELAY:g} s later, against real processes on loopback: the service, or
three replicas behind haproxy (deploy/proxy) with a shared store where one is named, and an MLflow server.
`./justw chaos store-killed idle` makes some of them alone, `--keep` keeps their logs. [store.md](store.md) says why it
comes out like this, [security.md](security.md) what bounds there are."""
EXPLANATION: Final = """*acknowledged*: predictions that got their 200. *failed*: predictions that were not acknowledged
in the end; the simulator tries again within its deadline, as a client should. *silence*: the longest time without an
acknowledged prediction, seconds. *lost*: acknowledged predictions whose truth found nothing. *twice*: truths that were
counted more than once, by the counters of all processes. None of them left a traceback in a log."""


def row(seen: Seen) -> str:
    """Return one line of the table."""
    counts = seen.counts
    failed = ", ".join(f"{number} {cause}" for cause, number in counts.failed.items()) or "0"
    kept = "yes" if not seen.broken else "**no**: " + "; ".join(seen.broken)
    remarks = "; ".join(seen.remarks)
    told = [f"{counts.acknowledged:,}", failed, f"{counts.silence:g}", str(counts.lost), str(counts.twice), kept]
    return f"| {' | '.join([seen.fault, seen.promise, *told, remarks])} |"


def page(document: Document) -> str:
    """Return the whole page."""
    header = ["fault", "promise", "acknowledged", "failed", "silence", "lost", "twice", "kept", "also"]
    lines = table(header, [], texts=("promise", "kept", "also"))
    rows = [row(each) for each in document.seen.values()]
    parts = [INTRODUCTION, described(document.machine), "\n".join([lines, *rows]), EXPLANATION]
    return "\n\n".join(parts) + "\n"

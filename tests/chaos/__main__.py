"""`just chaos`: each fault against real processes under load, all of them or some: just chaos store-killed idle."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import msgspec

from tests.bench.machine import machine
from tests.chaos.faults import FAULTS
from tests.chaos.outcome import Impossible
from tests.chaos.page import Document, page, row
from tests.chaos.running import ROWS, observe, say, served_model
from tests.service_process import ROOT

OUT: Final = ROOT / "data" / "chaos"
DOCS: Final = ROOT / "docs"


def main(arguments: Sequence[str]) -> int:
    """Make the faults; 1 where a promise was broken or a fault could not be made."""
    options = _options(arguments)
    model = served_model()
    document = Document(machine(), {}, {})
    for name in options.faults or FAULTS:
        say(f"--- {name}: {FAULTS[name].title}")
        try:
            document.seen[name] = seen = observe(FAULTS[name], model, ROWS, keep=options.keep)
            print(row(seen), flush=True)
        except Impossible as reason:
            document.impossible[name] = str(reason)
            say(f"cannot be made here: {reason}")
        except Exception as error:  # noqa: BLE001 - one that goes wrong must not keep the others from being made
            document.impossible[name] = repr(error)
            traceback.print_exc()
    OUT.mkdir(parents=True, exist_ok=True)
    for folder in [OUT, *([DOCS] if options.docs and not options.faults and not document.impossible else [])]:
        (folder / "reliability.json").write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
        (folder / "reliability.md").write_text(page(document), encoding="utf-8")
        say(f"written: {folder.relative_to(ROOT)}/reliability.json, reliability.md")
    return int(bool(document.impossible) or any(each.broken for each in document.seen.values()))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="just chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"{', '.join(FAULTS)}; all, where none is named")
    parser.add_argument("--docs", action="store_true", help="write to docs/ too, where all were made")
    parser.add_argument("--keep", action="store_true", help="keep the folders with logs and records")
    options = parser.parse_args(arguments)
    if unknown := set(options.faults) - FAULTS.keys():
        parser.error(f"there is no fault {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

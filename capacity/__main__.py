"""`just capacity 2000`: what an autoscaler makes of a load, simulated with measured costs; `--docs` writes the page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from capacity.behavior import Bounds
from capacity.figures import drawing
from capacity.load import Load
from capacity.measured import BENCH, Measured, Point, Unreadable, read
from capacity.page import HEADER, cells, costs, encoded, images, made, recommended, renewed, table
from capacity.page import read as read_document
from capacity.runs import Autoscaler
from capacity.scenarios import CPU, MOST, REQUEST, SLOWLY, Setting, replica_of, run
from streamsim.options import number, whole

DOCS: Final = Path("docs")
PAGE: Final = DOCS / "capacity.md"
FIGURES: Final = DOCS / "capacity.json"
MUCH: Final = 10**9 - 1
"""More than any option may be."""
DRAWING: Final = Path("data/capacity/own.svg")


def main(arguments: Sequence[str]) -> int:
    """Write the page, or simulate what is asked for; 1 where the figures cannot be read or written, 2 for usage."""
    options = _options(arguments)
    try:
        measured = read(options.bench, options.rates, _kept())
        if options.cpu_us is not None:
            calls = round(1e6 / options.cpu_us)
            measured = msgspec.structs.replace(measured, cpu_us=options.cpu_us, calls=calls, rung="--cpu-us", rates=[])
        if options.docs:
            _write(measured)
        elif options.rps is None:
            print("\n\n".join([costs(measured), recommended(measured)]))
        else:
            _simulate(measured, options)
    except (Unreadable, OSError) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    return 0


def _kept() -> list[Point]:
    """Return the points of the page as it stands: they are measured more seldom than the rest."""
    try:
        return read_document(FIGURES).measured.rates
    except (OSError, msgspec.DecodeError):
        return []


def _write(measured: Measured) -> None:
    document = made(measured)
    FIGURES.write_bytes(encoded(document))
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), document), encoding="utf-8")
    for name, text in images(document).items():
        (DOCS / "images" / name).write_text(text, encoding="utf-8")
    print(f"written: {PAGE}, {FIGURES}, {', '.join(images(document))}")


def _simulate(measured: Measured, options: argparse.Namespace) -> None:
    load = Load(
        name=f"{options.rps:,.6g}/s",
        rps=options.rps,
        on=options.on,
        off=options.off,
        lasts=options.lasts,
        truth_after=None if options.truth_after < 0 else options.truth_after,
    )
    down = SLOWLY._replace(window=options.down_window)
    scaler = Autoscaler(
        Bounds(options.min, max(options.min, options.max), down=down),
        cpu=options.target,
        refused=options.refused,
        in_flight=options.in_flight,
        resolution=options.resolution,
    )
    kind = replica_of(measured, options.limit)._replace(request=options.request)
    done = run(load, Setting("as asked for", scaler, kind), drawn=True)
    print(table([*HEADER], [[load.name, *cells(done.figure)]]))
    DRAWING.parent.mkdir(parents=True, exist_ok=True)
    DRAWING.write_text(drawing(f"{load.name} (simulated)", done.moments), encoding="utf-8")
    print(f"\nover time: {DRAWING}")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    top = argparse.ArgumentParser(
        prog="just capacity", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    more, least, count = number(0, MUCH, above=True), number(0, MUCH), whole(1, MUCH)
    top.add_argument("rps", nargs="?", type=more, metavar="RPS", help="records a second; the page's loads if not given")
    top.add_argument("--on", type=more, default=5.0, metavar="S", help="length of a burst")
    top.add_argument("--off", type=least, default=0.0, metavar="S", help="silence after it; 0: steady")
    top.add_argument("--lasts", type=more, default=300.0, metavar="S", help="seconds of load")
    top.add_argument("--truth-after", type=float, default=5.0, metavar="S", help="until its truth; below 0: none comes")
    top.add_argument("--target", type=count, default=CPU, metavar="PERCENT", help="averageUtilization of CPU")
    top.add_argument("--request", type=more, default=REQUEST, metavar="CORES", help="CPU that a replica requests")
    top.add_argument("--limit", type=more, default=0.5, metavar="CORES", help="CPU that it may use at most")
    top.add_argument("--min", type=count, default=2, metavar="N", help="minReplicas")
    top.add_argument("--max", type=count, default=MOST, metavar="N", help="maxReplicas")
    top.add_argument("--refused", type=more, metavar="N", help="averageValue of refusals a second, beside CPU")
    top.add_argument("--in-flight", type=more, metavar="N", help="averageValue of requests in flight, beside CPU")
    top.add_argument("--resolution", type=more, default=15.0, metavar="S", help="of metrics-server; minikube's: 60")
    top.add_argument("--down-window", type=least, default=300.0, metavar="S", help="before any goes")
    top.add_argument("--cpu-us", type=more, metavar="US", help="CPU of a call; measured if not given")
    top.add_argument("--bench", type=Path, default=BENCH, metavar="FILE", help="figures of `just bench`")
    top.add_argument("--rates", type=Path, metavar="FILE", help="figures of `just bench rates`, if others")
    top.add_argument("--docs", action="store_true", help="write docs/capacity.md, its JSON and its drawings")
    options = top.parse_args(arguments)
    if options.docs and options.rps is not None:
        top.error("--docs writes the page's own loads; leave RPS out")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

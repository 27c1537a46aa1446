"""`just bench-peers`: make what is missing, start everything, ask all the same, measure in turns, print the table."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from calsvc.http.errors import CalsvcError
from calsvc.model.bundle import Bundle, load_bundle
from calsvc.settings import Settings
from tests.bench import part
from tests.bench.load import CONNECTIONS, Void
from tests.bench.machine import machine
from tests.bench.peers.declared import PEERS, Peer, Site
from tests.bench.peers.making import FAILURES, made, pins, reason
from tests.bench.peers.measuring import Order, measure
from tests.bench.peers.report import CALSVC, ECHO, Peers, lines, markdown, page
from tests.bench.peers.wire import questions
from tests.bench.processes import ROOT, two_cores
from tests.bench.workouts import rows

OUT: Final = ROOT / "data" / "bench"
VENVS: Final = tuple(dict.fromkeys(peer.venv for peer in PEERS))
REMARKS: Final = {
    ECHO: f"starlette {version('starlette')}, uvicorn {version('uvicorn')}: answers what it was sent; no model",
    CALSVC: f"calsvc {version('calsvc')}: 1 process; features included, and validation, join store, all metrics, logs, "
    "10 % of the requests traced to a collector",
}
TELLING: Final = ("fastapi", "pandas", "mlflow", "bentoml", "mlserver", "xgboost-cpu")
"""Distributions whose version belongs in a remark."""


def main() -> int:
    """Return the exit code: 0, or 1 where there is no bundle, or calsvc itself could not be measured."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the peers' sessions are their own: end them on the way
    peers = [peer for peer in PEERS if arguments.only is None or peer.venv in arguments.only]
    options = part.Options(arguments.rounds, arguments.seconds, arguments.warmup)
    try:
        settings = Settings.from_env(os.environ)
        bundle = load_bundle(settings.bundle_path)
        sites, missing = all_made(peers, bundle, settings)
        if arguments.install:
            return 1 if missing else 0
        asked = questions(rows(), bundle.manifest.feature_names)
        with TemporaryDirectory() as log:
            windows, failed = measure(Order(options, two_cores(), bundle, asked, sites, Path(log)))
    except (CalsvcError, Void, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    remarks = REMARKS | {peer.name: remark(peer) for peer in peers}
    result = Peers(
        machine=machine(),
        rounds=options.rounds,
        seconds=options.seconds,
        connections=CONNECTIONS,
        cores=two_cores(),
        trees=bundle.manifest.trees,
        lines=lines(windows, remarks, missing | failed),
    )
    print(markdown(result))
    write(result, OUT / "peers")
    if arguments.docs:
        write(result, ROOT / "docs" / "bench-peers")
    return 0


def all_made(peers: Sequence[Peer], bundle: Bundle, settings: Settings) -> tuple[dict[Peer, Site], dict[str, str]]:
    """Make venvs and model files; return the peers that have them, and for the others the reason."""
    sites, missing = {}, {}
    for peer in peers:
        try:
            sites[peer] = made(peer, bundle, settings)
        except FAILURES as error:
            missing[peer.name] = reason(error)
            part.say(f"{peer.name}: {missing[peer.name]}")
    return sites, missing


def remark(peer: Peer) -> str:
    """Return what the table says of a peer, its versions first."""
    versions = [f"{name} {pin}" for name, pin in pins(peer.venv).items() if name in TELLING]
    return f"{', '.join(versions)}: {peer.remark}"


def write(result: Peers, stem: Path) -> None:
    """Write the result beside each other as JSON and as a page."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_bytes(part.encoded(result))
    stem.with_suffix(".md").write_text(page(result), encoding="utf-8")
    part.say(f"written: {stem.relative_to(ROOT)}.json, .md")


def _arguments() -> argparse.Namespace:
    own = argparse.ArgumentParser(prog="just bench-peers", description=__doc__, parents=[part.parser()])
    own.add_argument("--only", nargs="*", help=f"these of {', '.join(VENVS)}", metavar="PEER")
    own.add_argument("--install", action="store_true", help="make venvs and model files, measure nothing")
    own.add_argument("--docs", action="store_true", help="write docs/bench-peers.json and .md too")
    arguments = own.parse_args()
    if unknown := set(arguments.only or ()) - set(VENVS):
        own.error(f"there is no peer {', '.join(sorted(unknown))}; there are {', '.join(VENVS)}")
    if arguments.docs and arguments.only is not None:
        own.error("--docs is for a run of all peers: the figures of one page are of one run")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

"""`just bench`: every part in a process of its own, printed as it comes; `just bench ladder scorer` for two."""

import argparse
import os
import subprocess
import sys
from typing import Final

import msgspec

from calsvc.http.errors import CalsvcError
from calsvc.settings import Settings
from tests.bench import outage, part, stores
from tests.bench.machine import machine
from tests.bench.page import PARTS, Document, Text, page, section
from tests.bench.peers.making import FOLDER as PEERS
from tests.bench.processes import ROOT

OUT: Final = ROOT / "data" / "bench"
DOCS: Final = ROOT / "docs"


def main() -> int:
    """Run the parts; 1 where one of them failed or was void."""
    arguments = _arguments()
    part.leave_in_order()
    try:
        _demand_model()
        document = Document(machine(), {})
    except (CalsvcError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    for name in arguments.parts:
        part.say(f"--- {name}")
        result = _result(name, arguments)
        if result is not None:
            document.parts[name] = msgspec.Raw(result)
            print(f"\n{section(name, result)}\n", flush=True)
    complete = len(document.parts) == len(arguments.parts)
    if not document.parts:
        return 1
    for folder in [OUT, *([DOCS] if arguments.docs and complete else [])]:
        stem = "-".join(["bench", *arguments.alone])
        (folder / f"{stem}.json").write_bytes(part.encoded(document))
        (folder / f"{stem}.md").write_text(page(document, arguments.alone), encoding="utf-8")
        part.say(f"written: {folder.relative_to(ROOT)}/{stem}.json, {stem}.md")
    return 0 if complete else 1


def _arguments() -> argparse.Namespace:
    own = argparse.ArgumentParser(prog="just bench", description=__doc__, parents=[part.parser()])
    own.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all of them where none is named")
    own.add_argument("--docs", action="store_true", help="write to docs/ too; parts alone get a page of their own")
    arguments = own.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        own.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    arguments.alone = arguments.parts  # the figures of one page are of one run
    possible = {"peers": bool(installed_peers()), "outage": outage.at_hand(), "stores": stores.at_hand()}
    arguments.parts = arguments.parts or [name for name in PARTS if possible.get(name, True)]
    return arguments


def installed_peers() -> list[str]:
    """Return the peers that `just bench-peers` has installed here: nothing else is measured without a network."""
    return sorted(mark.parent.name for mark in PEERS.glob("*/venv.made-from"))


def _demand_model() -> None:
    """Train first where there is no model yet."""
    if not Settings.from_env(os.environ).bundle_path.exists():
        subprocess.run([sys.executable, "-m", "calsvc.training.train"], cwd=ROOT, check=True)


def _result(name: str, arguments: argparse.Namespace) -> bytes | None:
    """Run one part; return its result as JSON, None where it has none."""
    command = [sys.executable, "-m", f"tests.bench.{name}"]
    file = OUT / f"{name}.json"
    if PARTS[name].timed:
        options = ("rounds", "seconds", "warmup")
        command += [f"--{option}={getattr(arguments, option)}" for option in options]
        # The peers know where their result belongs.
        command += ["--only", *installed_peers()] if name == "peers" else ["--json", str(file)]
    status, printed = _run(command)
    if status != 0:
        part.say(f"{name} failed with {status}\n{printed}")
        return None
    if not PARTS[name].timed:
        file.write_bytes(part.encoded(Text(printed.strip())))
    return file.read_bytes()


def _run(command: list[str]) -> tuple[int, str]:
    """Run a program to its end; when this one is told to go, let that one stop its servers first."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            printed, _ = child.communicate()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        return child.returncode, printed


if __name__ == "__main__":
    sys.exit(main())

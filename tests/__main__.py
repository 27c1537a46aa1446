"""`just test`: what a person runs before every commit. `just test all`: every test that can run on this machine.

    just test                       the quick tests, in parallel
    just test tests/feedback -k X   some of them
    just test all                   all tests; first lists what they need beside Python, and builds what it can
    just test all --rest            all but the quick ones, after `just test`
    just test all tests/live -k X   some of all

All other arguments are passed to pytest.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.needs import NEEDS, Need

QUICK: Final = "(not needs and not slow and not alone)"
STEP: Final = 20.0
"""Seconds between progress messages of a build."""
NOTHING_SELECTED: Final = 5
"""pytest's exit code."""
LISTS: Final = {"--collect-only", "--co", "--help", "-h", "--markers", "--fixtures", "--version"}
"""Options with which pytest runs no test."""
SERIAL: Final = {"--pdb", "--trace", "-s", "-k", "-n", "--numprocesses", "--lf", "--last-failed"}
"""Options for a selection, which ends before workers have started, or that do not go with workers."""


def main(arguments: Sequence[str]) -> int:
    """Run the tests that the arguments select; return pytest's exit code, 2 if CI=true and a need is missing."""
    everything = arguments[:1] == ["all"]
    parser = argparse.ArgumentParser(prog="just test", allow_abbrev=False, add_help=False)
    parser.add_argument("-m", dest="marked", default="")
    parser.add_argument("--rest", action="store_true")
    options, chosen = parser.parse_known_args(arguments[1:] if everything else arguments)
    if "all" in chosen or (options.rest and not everything):
        print("error: all comes first: just test all [--rest] [PATH ...]", file=sys.stderr)
        return 2
    marks = [f"({options.marked})"] if options.marked else []
    if not everything:
        code = run([QUICK, *marks], [*in_parallel(chosen), *chosen])
        if code == NOTHING_SELECTED:
            print("No quick test is selected. All tests: just test all [PATH ...]", file=sys.stderr)
        return code
    marks += [f"not {QUICK}"] if options.rest else []
    return run(marks, chosen) if LISTS & set(chosen) else run_all(marks, chosen)


def run_all(marks: Sequence[str], chosen: Sequence[str]) -> int:
    """Prepare what the selected tests need and run them, first those that measure time, one after the other."""
    code, tests = collect(marks, chosen)
    if code:
        return code
    missing = prepare(Counter(name for test in tests for name in test.needs))
    if missing and os.environ.get("CI") == "true":
        print(f"error: CI=true requires every test, but {', '.join(missing)} is missing", file=sys.stderr)
        return 2
    left = [test for test in tests if not test.needs & set(missing)]
    if missing:
        print(f"Left out: {len(tests) - len(left)} of {len(tests)} tests, for lack of {', '.join(missing)}", flush=True)
    without = [f"--without={name}" for name in missing]
    codes = []
    if any(test.alone for test in left):
        codes.append(run([*marks, "alone"], [*without, *chosen, "-n0"]))
        if codes[0] > 1 or (codes[0] and {"-x", "--exitfirst"} & set(chosen)):
            return codes[0]
    if not codes or not all(test.alone for test in left):
        codes.append(run([*marks, "not alone"], [*in_parallel(chosen), *without, *chosen]))
    return next(filter(None, codes), 0)


def run(marks: Sequence[str], arguments: Sequence[str]) -> int:
    """Run pytest on the tests that have all these marks, and return its exit code, 128 + the number of a signal."""
    with subprocess.Popen(command(marks, arguments)) as process:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # pytest gets it too, and cleans up
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        code = process.wait()
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def command(marks: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the command line of pytest on the tests that have all these marks."""
    marked = ["-m", " and ".join(marks)] if marks else []
    return [sys.executable, "-m", "pytest", *marked, *arguments]


def in_parallel(chosen: Sequence[str]) -> list[str]:
    """Return the options for one worker per core plus one (many tests wait), at most nine; none for a selection."""
    if SERIAL & set(chosen) or any(Path(word.partition("::")[0]).exists() for word in chosen):
        return []
    return [f"--numprocesses={min(os.cpu_count() or 1, 8) + 1}", "--dist=loadfile", "--no-loadscope-reorder"]


class Collected(NamedTuple):
    """A test: the names of its needs, and whether it measures time."""

    needs: frozenset[str]
    alone: bool


def collect(marks: Sequence[str], chosen: Sequence[str]) -> tuple[int, list[Collected]]:
    """Return the selected tests, and pytest's exit code if it cannot collect them, after printing why."""
    print("Collecting tests ...", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "collected.json"
        listing = command(marks, ["--collect-only", "-q", f"--collected={file}", *chosen])
        done = subprocess.run(listing, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            print(done.stdout + done.stderr, file=sys.stderr)
            return done.returncode, []
        return 0, [Collected(frozenset(needs), alone) for needs, alone in json.loads(file.read_text())]


def prepare(asked: Mapping[str, int]) -> list[str]:
    """Print the needs of the selected tests, build what can be built, and return the names of what is missing.

    If CI=true and something is missing that cannot be built, nothing is built.
    """
    names = sorted({*asked, *(part for name in asked for part in NEEDS[name].parts)})
    builds = [name for name in names if NEEDS[name].buildable()]
    builds.sort(key=lambda name: len(NEEDS[name].parts))  # what is made of others comes after them
    if names:
        print("Some of the tests need more than Python:\n")
    missing = []
    for name in names:
        need = NEEDS[name]
        status = f"will be built now ({need.takes} the first time)" if name in builds else need.find()
        print(f"  {name:<14}needed by {asked.get(name, 0):>3}   {status or f'missing: {need.get}'}")
        if name in asked and not status:
            missing.append(name)
    print(flush=True)
    if not (missing and os.environ.get("CI") == "true"):
        missing += [name for name in builds if not build(name, NEEDS[name]) and name in asked]
    return missing


def build(name: str, need: Need) -> bool:
    """Build a need, printing progress, and its output if it fails; return whether it worked."""
    started = time.monotonic()
    print(f"{name}: building ...", flush=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen([sys.executable, "-m", *need.build], **pipes) as process:  # type: ignore[call-overload]
        while True:
            try:
                output, _ = process.communicate(timeout=STEP)
                break
            except subprocess.TimeoutExpired:
                print(f"{name}: {time.monotonic() - started:.0f} s ...", flush=True)
    good = process.returncode == 0
    print(f"{name}: {'done' if good else 'failed'} after {time.monotonic() - started:.0f} s", flush=True)
    if not good:
        print(output[-3000:], file=sys.stderr)
    return good


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of some hundred processes compiles everything again
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

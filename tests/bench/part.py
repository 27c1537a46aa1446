"""What the parts of `just bench` have in common: options, a result as JSON and as Markdown."""

import argparse
import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec


class Options(NamedTuple):
    """How long, and what of it."""

    rounds: int = 5
    seconds: float = 2.0
    warmup: float = 0.5
    only: tuple[str, ...] = ()


R = TypeVar("R")


def parser() -> argparse.ArgumentParser:
    """Return the options that every part takes."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--rounds", type=int, default=Options().rounds, help="repetitions of everything (5)")
    options.add_argument("--seconds", type=float, default=Options().seconds, help="length of one measurement (2)")
    options.add_argument("--warmup", type=float, default=Options().warmup, help="seconds before it (0.5)")
    return options


def main(name: str, measure: Callable[[Options], R], markdown: Callable[[R], str], void: type[Exception]) -> int:
    """Run one part as a program; 1 where the measurement is void."""
    own = argparse.ArgumentParser(prog=f"python -m tests.bench.{name}", parents=[parser()])
    own.add_argument("--json", type=Path, help="where the result goes")
    own.add_argument("--only", nargs="*", default=[], help="names without blanks and signs: bareecho logs")
    arguments = own.parse_args()
    leave_in_order()
    try:
        result = measure(Options(arguments.rounds, arguments.seconds, arguments.warmup, tuple(arguments.only)))
    except void as error:
        print(f"void: {error}", file=sys.stderr)
        return 1
    print(markdown(result))
    if arguments.json:
        arguments.json.write_bytes(encoded(result))
    return 0


def encoded(result: Any) -> bytes:
    """Return a result as JSON for people."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"


def leave_in_order() -> None:
    """Make SIGTERM an exit like any other: servers, frozen ones too, are stopped on the way out."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def settle() -> None:
    """Let the garbage collector forget what exists: a look at all imported modules takes 70 ms, at any time."""
    gc.collect()
    gc.freeze()


def say(progress: str) -> None:
    """Tell the person who waits; not part of the result."""
    print(progress, file=sys.stderr, flush=True)

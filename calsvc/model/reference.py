"""The worker process that answers with the handout's own code: `python -m calsvc.model.reference --handout --artefact`.

Requests and replies are JSON lines over stdin and stdout. First comes `{"ready": true}` or `{"error": text}`; then
for each request `{"n": int, "workout": {...}}` one reply `{"n": int, "kcal": float}` or `{"n": int, "error": text}`.
It ends with its stdin, so it does not outlive its parent. `worker.py` is the other side. The frames that it asks the
handout are of the form that the bundle keeps beside the artefact.
"""

import argparse
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import UNSET, Struct, UnsetType

from calsvc.handout.artefact import Artefact, opened_artefact, predicted
from calsvc.handout.frame import CsvForm, frame_of
from calsvc.http.errors import ExportError
from calsvc.http.schema import Workout
from calsvc.model.bundle import FORM
from calsvc.model.line_process import private_stdout


class Request(Struct, frozen=True):
    """One row to score; `n` comes back with the reply, so that a reply nobody waited for is recognised."""

    n: int
    workout: Workout


class Reply(Struct, frozen=True, omit_defaults=True):
    """What the worker writes; exactly one of `ready`, `kcal` and `error` is set."""

    n: int = 0
    ready: bool = False
    kcal: float | UnsetType = UNSET
    error: str | UnsetType = UNSET


def main() -> int:
    """Serve until stdin ends; 1 where the handout cannot be opened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--handout", type=Path, required=True)
    parser.add_argument("--artefact", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent drains first
    with private_stdout() as replies:
        try:
            form = msgspec.json.decode(arguments.artefact.with_name(FORM).read_bytes(), type=CsvForm)
            with opened_artefact(arguments.handout, arguments.artefact) as artefact:
                _write(replies, Reply(ready=True))
                _serve(artefact, form, sys.stdin.buffer, replies)
        except ExportError as error:
            _write(replies, Reply(error=str(error)))
            return 1
    return 0


def _serve(artefact: Artefact, form: CsvForm, requests: Iterable[bytes], replies: BinaryIO) -> None:
    for line in requests:
        request = msgspec.json.decode(line, type=Request)
        try:
            reply = Reply(request.n, kcal=predicted(artefact, frame_of(form, [request.workout])))
        except ExportError as error:
            reply = Reply(request.n, error=str(error))
        _write(replies, reply)


def _write(replies: BinaryIO, reply: Reply) -> None:
    replies.write(msgspec.json.encode(reply) + b"\n")
    replies.flush()


if __name__ == "__main__":
    sys.exit(main())

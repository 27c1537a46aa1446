"""The handout's own `predict`, timed in a process of its own: its imports and its threads are not the measurement's.

`python -m tests.bench.handout HANDOUT ARTEFACT` takes a `Task` (JSON) a line from stdin and answers with the seconds
that each row took.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec import Struct

from calsvc.handout.artefact import opened_artefact
from calsvc.handout.running import run_training
from tests.bench import part
from tests.bench.processes import ROOT, environment
from tests.bench.workouts import HOLDOUT, rows


class Task(Struct, frozen=True):
    """How many rows a call, and for how long (seconds; one call at least)."""

    batch: int
    seconds: float


@contextmanager
def asked(handout: Path) -> Iterator[Callable[[Task], float]]:
    """Train the handout as it is, and yield the function that times its predict: seconds a row."""
    data = HOLDOUT.parent if HOLDOUT.exists() else handout / "data_sample"
    with TemporaryDirectory() as folder:
        artefact = run_training(handout, data, Path(folder), lambda _: None).file
        command = [sys.executable, "-B", "-m", "tests.bench.handout", str(handout.resolve()), str(artefact)]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment({"OMP_NUM_THREADS": "1"})
        )
        assert child.stdin is not None
        assert child.stdout is not None
        requests, replies = child.stdin, child.stdout

        def ask(task: Task) -> float:
            requests.write(msgspec.json.encode(task) + b"\n")
            requests.flush()
            return float(replies.readline())

        with child:
            try:
                yield ask
            finally:
                requests.close()


def seconds_a_row(predict: Callable[[Any], Any], frames: Iterator[Any], task: Task) -> float:
    """Call `predict` with one frame after the other until the time is over."""
    calls, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < task.seconds or not calls:
        predict(next(frames))
        calls += 1
    return taken / calls / task.batch


def main() -> None:
    """Answer tasks until stdin ends."""
    handout, file = (Path(each) for each in sys.argv[1:])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the handout prints is no reply
    with opened_artefact(handout, file) as artefact:
        import pandas as pd  # noqa: PLC0415 - after the handout

        frame = pd.DataFrame([{"id": number, **row} for number, row in enumerate(rows())])
        part.settle()
        batches: dict[int, Iterator[Any]] = {}
        for line in sys.stdin.buffer:
            task = msgspec.json.decode(line, type=Task)
            if task.batch not in batches:
                starts = range(0, len(frame) - task.batch + 1, task.batch)
                batches[task.batch] = itertools.cycle([frame.iloc[start : start + task.batch] for start in starts])
            print(seconds_a_row(artefact.predict, batches[task.batch], task), file=replies, flush=True)


if __name__ == "__main__":
    main()

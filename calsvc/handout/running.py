"""How a handout's train.py is run: unmodified, in a process of its own, without leaving a trace in its folder."""

import json
import math
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final, NamedTuple

from calsvc.handout.form import check_handout, snapshot
from calsvc.handout.process import run_alone
from calsvc.http.errors import HandoutError

_LAST_WORDS: Final = 5
"""Lines of a failed training's stderr that are worth repeating."""


class TrainedArtefact(NamedTuple):
    """What train.py left: the pickled model, and its numbers by name."""

    file: Path
    metrics: dict[str, float]


def run_training(handout: Path, data_dir: Path, out_dir: Path, on_line: Callable[[str], None]) -> TrainedArtefact:
    """Run the handout's train.py on `data_dir`, unmodified and in its own process; results go to `out_dir`.

    `on_line` gets each line of its stdout. Thread caps are inherited from the environment.

    Raises:
        HandoutError: it fails, leaves no artefact or no usable metrics, or writes into its own folder.
    """
    check_handout(handout)
    before = snapshot(handout)
    artefact, metrics = out_dir.resolve() / "artefact.joblib", out_dir.resolve() / "metrics.json"
    arguments = ["--data-dir", data_dir.resolve(), "--config", handout.resolve() / "config.yaml"]
    arguments += ["--out", artefact, "--metrics", metrics]
    command = [sys.executable, "-B", handout.resolve() / "train.py", *arguments]
    with TemporaryDirectory(prefix="calsvc-train-") as scratch, _file_of_errors() as errors:
        status = run_alone([str(each) for each in command], Path(scratch), errors, on_line)
        if status != 0:
            raise HandoutError(f"{handout / 'train.py'} failed ({_ending(status)}): {_last_words(errors)}")
    _demand_unchanged(handout, before)
    if not artefact.is_file() or artefact.stat().st_size == 0:
        raise HandoutError(f"{handout / 'train.py'} left no artefact at its --out, although it ended well")
    return TrainedArtefact(artefact, _metrics(handout / "train.py", metrics))


def _file_of_errors() -> IO[bytes]:
    """Return a file in memory, where there are such: a full disk of temporary files must not swallow its own reason."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return TemporaryFile()


def _ending(status: int) -> str:
    return f"exit code {status}" if status > 0 else f"ended by signal {-status}"


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = (line.decode("utf-8", "replace").strip() for line in errors)
    return " | ".join(deque((line for line in lines if line), _LAST_WORDS)) or "it wrote nothing to stderr"


def _demand_unchanged(handout: Path, before: dict[str, str]) -> None:
    after = snapshot(handout)
    touched = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if touched:
        what = "removed" if touched[0] not in after else "changed" if touched[0] in before else "wrote"
        raise HandoutError(
            f"{handout / 'train.py'} {what} {touched[0]} in its own folder, or another program did meanwhile; the "
            "folder is to stay as it was handed over: restore it, and if it was train.py, ask for one that writes only "
            "to --out and --metrics"
        )


def _metrics(script: Path, file: Path) -> dict[str, float]:
    """Read the top-level numbers; other values are the data scientist's own notes."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HandoutError(f"{script} left no metrics at its --metrics, although it ended well") from None
    except ValueError as error:
        raise HandoutError(f"{script} left metrics that are not JSON: {error}") from None
    if not isinstance(content, dict):
        raise HandoutError(f"{script} left metrics that are not a JSON object")
    numbers = {name: each for name, each in content.items() if type(each) in (int, float)}
    for name, each in numbers.items():
        if not math.isfinite(each):
            raise HandoutError(f"{script} reports {name} = {each}: the training has failed, although it ended well")
    return {name: float(each) for name, each in numbers.items()}

"""The record of a run: one JSON line for each acknowledged prediction and each truth that was settled."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Final

from streamsim.errors import OutputError
from streamsim.owed import Owed

LONGEST_LINE: Final = 4096
BEGIN: Final = b'{"event": '


class Recorder:
    """Writes the lines, unbuffered, so that a killed run has recorded all it knew. Use `open_record`."""

    def __init__(self, file: FileIO | None) -> None:
        self._file = file

    def prediction(self, owed: Owed) -> None:
        """Record an acknowledged prediction: `predicted` kcal as received, `predicted_at` epoch seconds."""
        self._write(owed, "prediction", {"status": "acknowledged"})

    def feedback(self, owed: Owed, status: str, answered_at: float) -> None:
        """Record what settled a truth: `status` matched, duplicate, conflict, unknown, rejected or given_up."""
        self._write(owed, "feedback", {"answered_at": answered_at, "status": status})

    def _write(self, owed: Owed, event: str, more: dict[str, float | str]) -> None:
        if self._file is None:
            return
        known = {"predicted": owed.predicted, "truth": owed.truth, "predicted_at": owed.at}
        line = {"event": event, "id": json.loads(owed.id_json), **known, **more}
        left = json.dumps(line).encode() + b"\n"
        try:
            while left:  # a disk that is almost full takes a part, and fails at the next
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OutputError(f"{self._file.name}: the record cannot be written: {error.strerror}") from None


@contextmanager
def open_record(path: Path | None, *, append: bool) -> Iterator[Recorder]:
    """Open the record file, new or to be continued; without a path nothing is recorded.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        yield Recorder(None)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "a" if append else "w")
        if append and path.is_file():
            _cut_to_whole_lines(path)
    except OSError as error:
        raise OutputError(f"{path}: the record cannot be written: {error.strerror}") from None
    with file:
        yield Recorder(file)


def _cut_to_whole_lines(path: Path) -> None:
    """Remove the begin of a line that a full disk has left; what it was about is still owed, or is told once more."""
    with path.open("rb+") as file:
        size = file.seek(0, SEEK_END)
        file.seek(max(0, size - LONGEST_LINE))
        tail = file.read()
        begun = tail[tail.rfind(b"\n") + 1 :]
        if begun.startswith(BEGIN) or BEGIN.startswith(begun):
            file.truncate(size - len(begun))

"""The record of a run: one JSON line for each acknowledged prediction and each truth that was settled."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from streamsim.errors import OutputError
from streamsim.owed import Owed


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
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
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
    except OSError as error:
        raise OutputError(f"{path}: the record cannot be written: {error.strerror}") from None
    with file:
        yield Recorder(file)

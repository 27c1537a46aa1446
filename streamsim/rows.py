"""The rows to replay, held as one block of bytes: a row costs its JSON text and eight bytes, not a dozen objects."""

import time
from array import array
from collections.abc import Iterable
from typing import NamedTuple


class Record(NamedTuple):
    """One record to send: `id_json` and `body` are JSON texts, `truth` is the measured kcal."""

    id_json: str
    truth: float
    body: bytes


class Rows:
    """Labelled rows in the order they are replayed, lap after lap.

    The block holds one line a row: the id as JSON, the truth as decimal digits, the features as a JSON object,
    divided by tabs (which JSON escapes inside strings).
    """

    __slots__ = ("_block", "_starts")

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._starts = array("q", _line_starts(block))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def record(self, number: int, first_lap: int = 0) -> Record:
        """Return the `number`th record of a run, counted from 0.

        Lap 0 sends each row's own id; later laps send the text `<id>.<lap>`, so that a run never reuses an id.
        """
        lap, index = divmod(number, len(self))
        line = self._block[self._starts[index] : self._starts[index + 1] - 1]
        id_json, truth, features = line.split(b"\t")
        if lap := lap + first_lap:
            text = id_json[1:-1] if id_json.startswith(b'"') else id_json
            id_json = b'"%b.%d"' % (text, lap)
        return Record(id_json.decode(), float(truth), b'{"id":%b,%b' % (id_json, features[1:]))


def unused_lap() -> int:
    """Return a first lap whose ids earlier runs have not used, if a lap took them a second or longer: now."""
    return int(time.time())


def _line_starts(block: bytes) -> Iterable[int]:
    position = 0
    yield position
    while (end := block.find(b"\n", position)) >= 0:
        position = end + 1
        yield position

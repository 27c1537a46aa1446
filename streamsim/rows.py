"""The rows to replay, held as one block of bytes: a row costs its JSON text and eight bytes, not a dozen objects."""

import json
import time
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

MAX_ID_LENGTH: Final = 64
"""Characters of an id that the service takes."""
_DIGEST_LENGTH: Final = 16


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

        Lap 0 sends each row's own id; later laps send the text `<id>.<lap>`, so that a run never reuses an id. Where
        that is too long for the service, a digest stands for the end of the row's id.
        """
        lap, index = divmod(number, len(self))
        line = self._block[self._starts[index] : self._starts[index + 1] - 1]
        id_json, truth, features = line.split(b"\t")
        if lap := lap + first_lap:
            text = id_json[1:-1] if id_json.startswith(b'"') else id_json
            suffix = b".%d" % lap
            if len(text) + len(suffix) > MAX_ID_LENGTH:  # perhaps: bytes of JSON are as many as characters, or more
                text = _shortened(text, MAX_ID_LENGTH - len(suffix))
            id_json = b'"%b%b"' % (text, suffix)
        return Record(id_json.decode(), float(truth), b'{"id":%b,%b' % (id_json, features[1:]))


def _shortened(text: bytes, length: int) -> bytes:
    """Return an id of at most so many characters, the same for the same id; both as JSON without quotes."""
    whole: str = json.loads(b'"%b"' % text)
    if len(whole) <= length:
        return text
    digest = blake2b(whole.encode(), digest_size=_DIGEST_LENGTH // 2).hexdigest()
    return json.dumps(f"{whole[: length - 1 - _DIGEST_LENGTH]}~{digest}")[1:-1].encode()


def unused_lap() -> int:
    """Return a first lap whose ids earlier runs have not used, if a lap took them a second or longer: now."""
    return int(time.time())


def _line_starts(block: bytes) -> Iterable[int]:
    position = 0
    yield position
    while (end := block.find(b"\n", position)) >= 0:
        position = end + 1
        yield position

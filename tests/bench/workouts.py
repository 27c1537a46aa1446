"""Records to send: the bundle's held-out rows where there are any, else as many from a seeded generator."""

import csv
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
HOLDOUT: Final = ROOT / "data" / "holdout" / "stream.csv"
ROWS: Final = 4000
FIRST_ID: Final = 1_000_000_000
"""The smallest id: all of them have ten digits, so that every request of a row has the same length."""
NUMBERS: Final = ("Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp")

Row = dict[str, Any]


def rows(file: Path = HOLDOUT) -> list[Row]:
    """Return up to `ROWS` workouts without id."""
    if not file.exists():
        return generated(ROWS)
    with file.open(newline="") as lines:
        read = [
            {"Sex": line.get("Sex") or line["Gender"], **{name: json.loads(line[name]) for name in NUMBERS}}
            for line in csv.DictReader(lines)
        ]
    return read[:ROWS]


def generated(count: int, seed: int = 0) -> list[Row]:
    """Return `count` workouts as people do them, the same ones for the same seed."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        minutes = float(draw.randint(1, 30))
        made.append(
            {
                "Sex": draw.choice(("male", "female")),
                "Age": draw.randint(20, 79),
                "Height": round(draw.gauss(174, 13)),
                "Weight": round(draw.gauss(75, 14)),
                "Duration": minutes,
                "Heart_Rate": round(76 + 1.2 * minutes + draw.gauss(0, 6)),
                "Body_Temp": round(38.4 + 1.3 * (minutes / 15) ** 0.5 + draw.gauss(0, 0.2), 1),
            }
        )
    return made


def templates(records: Iterable[Row], path: str = "/predict") -> list[tuple[bytes, bytes]]:
    """Return a POST for each record, in two halves between which an id of ten digits belongs."""
    return [_template(json.dumps(record, separators=(",", ":")).encode(), path.encode()) for record in records]


def _template(record: bytes, path: bytes) -> tuple[bytes, bytes]:
    after = b"," + record.removeprefix(b"{")
    length = len(b'{"id":') + len(str(FIRST_ID)) + len(after)
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (path, length) + b'{"id":', after

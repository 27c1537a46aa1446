"""What goes over the wire to a server of any kind: requests made of one row, and the number in its answer. Pure."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np

from calsvc.http.schema import parse_workout
from calsvc.model.features import row_function
from tests.bench.workouts import Row

PLACE_OF_ID: Final = 9_999_999_999
"""Stands in a body where the id belongs, as a number or inside a text; as long as every id of the generator."""
_ID: Final = str(PLACE_OF_ID).encode()

Template = tuple[bytes, bytes]
"""A request in two halves, between which an id of ten digits belongs."""


class Question(NamedTuple):
    """One row: as the handout names its columns, and as the trees look at it (float32)."""

    row: Row
    features: list[float]


def questions(rows: Iterable[Row], feature_names: list[str]) -> list[Question]:
    """Compute the features that servers without feature engineering are sent."""
    features = row_function(feature_names)
    return [Question(row, _shortest(features(parse_workout(json.dumps({"id": 0, **row}).encode())))) for row in rows]


def _shortest(values: Iterable[float]) -> list[float]:
    """Round to float32, written with as few digits as possible: the trees get the same, the parsers less to read."""
    return [float(str(np.float32(value))) for value in values]


def template(path: str, body: Any) -> Template:
    """Return the POST of a body as JSON. Where the body has no place for the id, a header carries it."""
    content = json.dumps(body, separators=(",", ":")).encode()
    head = b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (
        path.encode(),
        len(content),
    )
    before, found, after = content.partition(_ID)
    if found:
        return head + b"\r\n" + before, after
    return head + b"X-Request-Id: ", b"\r\n\r\n" + content


def number_at(*keys: str | int) -> Callable[[bytes], float]:
    """Return a function that takes the number at `keys` out of an answer: `number_at("predictions", 0)`."""

    def number(answer: bytes) -> float:
        found = json.loads(answer)
        for key in keys:
            found = found[key]
        return float(found)

    return number


def relative_difference(kcal: float, reference: float) -> float:
    """Return how far a prediction is from the reference, relative to it; infinite where it is not a number."""
    difference = abs(kcal - reference) / max(abs(reference), 1e-9)
    return difference if difference == difference else float("inf")  # noqa: PLR0124 - only nan differs from itself

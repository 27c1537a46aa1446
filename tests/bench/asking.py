"""Single questions over HTTP: whether a server answers yet, what a collector has counted, what a scrape holds."""

import json
import urllib.error
import urllib.request
from typing import Final

import msgspec

from tests.bench.sink import COUNTS, Counts
from tests.bench.workouts import FIRST_ID, generated

TIMEOUT: Final = 30.0


def get(port: int, path: str, accept: str = "*/*") -> bytes:
    """Return the content of a path of 127.0.0.1."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - always http://127.0.0.1
        content: bytes = answer.read()
        return content


def predicts(port: int) -> bool:
    """Tell whether a workout is answered with 200."""
    body = json.dumps({"id": FIRST_ID, **generated(1)[0]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:  # an HTTPError is one
        return False


def counts(port: int) -> Counts:
    """Return what the collector has taken so far."""
    return msgspec.json.decode(get(port, COUNTS), type=Counts)


def collects(port: int) -> bool:
    """Tell whether the collector answers."""
    try:
        counts(port)
    except OSError:
        return False
    return True

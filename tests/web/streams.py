"""The client's end of the event stream, over a real socket."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Self
from urllib.parse import urlsplit

from tests.service_process import PATIENCE


class EventStream:
    """An open page, without the page."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
        self._connection.request("GET", "/events")
        self.answer: HTTPResponse = self._connection.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.answer.close()
        self._connection.close()

    def events(self) -> Iterator[tuple[str, bytes]]:
        """Each event's name and data, until the stream ends as HTTP says it should."""
        name = ""
        while line := self.answer.readline():
            field, _, value = line.rstrip(b"\n").partition(b": ")
            if field == b"event":
                name = value.decode()
            elif field == b"data":
                yield name, value

    def updates(self, number: int) -> list[bytes]:
        """The next snapshots, as they were sent."""
        events = (data for name, data in self.events() if name == "update")
        return [next(events) for _ in range(number)]


def at(update: bytes) -> float:
    """When a snapshot was taken."""
    snapshot: dict[str, Any] = json.loads(update)
    return float(snapshot["at"])

"""How many requests may be in flight at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from calsvc.errors import Overloaded


class Admission:
    """Counts requests in flight and refuses those past `limit` at once, instead of letting all of them grow slow."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.in_flight = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold a place for one request; `Overloaded` when none is free."""
        if self.in_flight >= self._limit:
            raise Overloaded(f"{self._limit} requests are in flight already; try again in a moment")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

"""How many requests may wait for their answer at once, and what those past the limit are told."""

from collections.abc import Mapping
from typing import Final

from calsvc.errors import Overloaded
from observability.histogram import Distribution

END_OF_HEAD: Final = b"\r\n\r\n"


class Admission:
    """Counts requests that have arrived whole and are not answered, and refuses one where they are more than `limit`.

    What is counted is what waits in this process, before and inside the endpoints; a client that dawdles with its body
    takes nobody's place. Refusing is cheap and makes room at once: those who stay are answered before they give up.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.refused = 0
        """Requests refused since the start."""

    def arrived(self) -> None:
        """Count a request of which nothing is missing any more."""
        self.in_flight += 1

    def left(self, requests: int = 1) -> None:
        """Count requests out: answered, or their client has gone."""
        self.in_flight -= requests

    @property
    def full(self) -> bool:
        """True while as many requests wait as may."""
        return self.in_flight >= self.limit

    def admit(self) -> None:
        """Raise `Overloaded` where more requests wait than may, the one that asks among them."""
        if self.in_flight > self.limit:
            self.refused += 1
            raise Overloaded(f"{self.limit} requests are waiting already; try again in a moment")


class Doorman:
    """Refuses requests as they come off the wire, before they are parsed.

    A refusal has to cost much less than an answer, or refusing twice the load that can be answered leaves no time to
    answer any: through parser, application and error table it cost more than a prediction.

    Args:
        admission: says when.
        answer: the whole HTTP response.
        counted: by path, where a refusal is counted as an answer that took no time.
    """

    def __init__(self, admission: Admission, answer: bytes, counted: Mapping[str, Distribution]) -> None:
        self.admission = admission
        self.answer = answer
        self._counted = {f"POST {path} HTTP/1.1".encode(): distribution for path, distribution in counted.items()}

    def refuses(self, data: bytes) -> bool:
        """Tell whether `data` is one whole request for which there is no room. It must begin where a request begins."""
        if not self.admission.full:
            return False
        counted = self._counted.get(data[: data.find(b"\r\n")])
        if counted is None or not is_whole(data):
            return False
        self.admission.refused += 1
        counted.observe(0.0)
        return True


def is_whole(data: bytes) -> bool:
    """Tell whether `data` is one plain request with a body of announced length, no more and no less."""
    head = data[: data.find(END_OF_HEAD) + len(END_OF_HEAD)].lower()
    if _header(head, b"connection") not in {b"", b"keep-alive"} or b"\r\nexpect:" in head:
        return False
    length = _header(head, b"content-length")
    return length.isdigit() and len(head) + int(length) == len(data)


def _header(head: bytes, name: bytes) -> bytes:
    """Return the value of a header in a lower-case head, empty where there is none."""
    at = head.find(b"\r\n" + name + b":")
    return head[at + len(name) + 3 : head.find(b"\r\n", at + 2)].strip() if at >= 0 else b""

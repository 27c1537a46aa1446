"""The very requests that are measured, one at a time: whether a peer answers, and whether it answers right."""

import http.client
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.bench.peers.wire import Template, relative_difference
from tests.bench.workouts import FIRST_ID

TIMEOUT: Final = 30.0
AT_ONCE: Final = 16
TOLERANCE: Final = 1e-3
"""Relative difference to calsvc's kcal up to which an answer is right."""


class Wrong(RuntimeError):
    """A server is fast, but does not say what the model says."""


def ask(port: int, request: Template, record_id: int = FIRST_ID) -> tuple[int, bytes]:
    """Send a request to 127.0.0.1 and return status and content of the answer."""
    before, after = request
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(b"%b%d%b" % (before, record_id, after))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


def answered(port: int, request: Template) -> bool:
    """Tell whether a request is answered with 200."""
    try:
        return ask(port, request)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def kcal_of(port: int, requests: Sequence[Template], kcal: Callable[[bytes], float]) -> list[float]:
    """Return the predictions for all requests, many of them asked for at the same time, as batching has to get right.

    Raises:
        Wrong: one is not answered with 200, or not in the form that `kcal` reads.
    """

    def one(numbered: tuple[int, Template]) -> float:
        try:
            status, content = ask(port, numbered[1], FIRST_ID + numbered[0])
        except http.client.HTTPException as error:
            raise Wrong(f"answered something that is not HTTP: {error!r}") from None
        try:
            if status == 200:
                return kcal(content)
        except (ValueError, LookupError, TypeError, OverflowError):
            pass  # told with the content, as below
        raise Wrong(f"answered {status}: {content[:200].decode(errors='replace')}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, enumerate(requests)))


def demand_agreement(kcal: Sequence[float], reference: Sequence[float]) -> float:
    """Return the largest relative difference.

    Raises:
        Wrong: it is above `TOLERANCE`.
    """
    worst = max(map(relative_difference, kcal, reference))
    if worst > TOLERANCE:
        raise Wrong(f"wrong answers: up to {worst * 100:.3g} % away from those of calsvc")
    return worst

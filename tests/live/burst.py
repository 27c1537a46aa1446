"""A burst with everything in it: predictions, their truth, mistakes of clients, refusals; and what it comes to."""

import json
import math
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.http.test_schema import WORKOUT, workout
from tests.service_process import PATIENCE, ServiceProcess

ROUNDS = 6
PER_ROUND = 40
CROWD = 64
"""Requests sent in one go, to a service that lets a few in at once."""
CROWDS = 50
"""Crowds sent at most, until somebody was refused."""

MISTAKES = (
    ("/predict", workout(Age=400), 422),
    ("/predict", b"Age=40", 400),
    ("/feedback", b'{"id": "nobody", "Calories": 1}', 404),
    ("/feedback", b'{"id": "nobody"}', 422),
    ("/nowhere", b"{}", 404),
)


class Judged(NamedTuple):
    """A prediction and the truth that was sent of it, kcal."""

    predicted: float
    truth: float


class Sent(NamedTuple):
    """What a burst was."""

    judged: list[Judged]
    predictions: int
    refused: int

    @property
    def rmsle(self) -> float:
        """By its textbook definition."""
        squares = [(math.log1p(each.predicted) - math.log1p(each.truth)) ** 2 for each in self.judged]
        return math.sqrt(math.fsum(squares) / len(squares))

    @property
    def mae_kcal(self) -> float:
        """By its textbook definition."""
        return math.fsum(abs(each.predicted - each.truth) for each in self.judged) / len(self.judged)


def send_burst(service: ServiceProcess, pause: Callable[[], None]) -> Sent:
    """Send it in rounds, with a `pause` after each, in which Prometheus may look."""
    judged: list[Judged] = []
    for number in range(ROUNDS):
        made = [_predict(service, number * PER_ROUND + each) for each in range(PER_ROUND)]
        pause()
        judged += [_judge(service, *each) for each in made]
        for path, body, status in MISTAKES:
            assert service.call(path, body)[0] == status
        assert service.call("/feedback", {"id": made[0][0], "Calories": 1.5})[0] == 409
        assert service.call("/feedback", {"id": made[-1][0], "Calories": judged[-1].truth})[0] == 200
    answered, refused = _crowd_in(service)
    pause()
    return Sent(judged, ROUNDS * PER_ROUND + answered, refused)


def _predict(service: ServiceProcess, record_id: int) -> tuple[int, float]:
    status, _, body = service.call("/predict", WORKOUT | {"id": record_id, "Duration": 1 + record_id % 30})
    assert status == 200, body
    return record_id, json.loads(body)["Calories"]


def _judge(service: ServiceProcess, record_id: int, predicted: float) -> Judged:
    truth = round(predicted * (0.9 + record_id % 7 / 20) + 1, 2)
    status, _, body = service.call("/feedback", {"id": record_id, "Calories": truth})
    assert (status, json.loads(body)["status"]) == (200, "matched")
    return Judged(predicted, truth)


def _crowd_in(service: ServiceProcess) -> tuple[int, int]:
    """Send crowds until somebody was refused; return how many were answered and how many refused."""
    answered = refused = 0
    parts = urlsplit(service.url)
    with ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection((parts.hostname, parts.port))) for _ in range(CROWD)]
        for each in crowd:
            each.settimeout(PATIENCE)
        for attempt in range(CROWDS):
            for number, each in enumerate(crowd):
                each.sendall(_request(f"crowd {attempt} {number}"))
            statuses = [_status(each) for each in crowd]
            answered += statuses.count(b"200")
            refused += statuses.count(b"503")
            assert set(statuses) <= {b"200", b"503"}
            if refused:
                return answered, refused
    raise AssertionError(f"{CROWDS} crowds of {CROWD}, and nobody was refused")


def _request(record_id: str) -> bytes:
    body = workout(id=record_id)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _status(connection: socket.socket) -> bytes:
    """Read one answer to its end; return its status."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"content-length: (\d+)", head.lower())
    while len(body) < int(length):
        body += connection.recv(65536)
    return head.split(maxsplit=2)[1]

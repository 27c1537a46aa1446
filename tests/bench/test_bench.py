"""The measuring itself: what it computes from known numbers, what it sends, and what makes it void."""

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from calsvc.http.schema import parse_workout
from tests.bench.figures import Spread, rotated, shown, spread, table
from tests.bench.ladder import Arrived, Ladder, demand_spans, markdown
from tests.bench.load import Plan, Void, Window, missing, requests
from tests.bench.measure import figures, in_turns, loaded, remarks
from tests.bench.processes import Cores
from tests.bench.sink import spans_in
from tests.bench.workouts import FIRST_ID, generated, rows, templates
from tests.conftest import Workshop
from tests.service_process import free_port
from tests.serving import serving


def measured(*, requests: int, server: float | None = 1.0, generator: float = 0.5) -> Window:
    """A window of one second."""
    return Window(seconds=1.0, requests=requests, total=requests, server_cpu=server, generator_cpu=generator)


def plan(port: int, **changes: Any) -> Plan:
    """A short run against a port."""
    return Plan(
        port=port, pid=os.getpid(), templates=templates(generated(3)), **({"seconds": 0.2, "warmup": 0.0} | changes)
    )


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_share_is_taken_within_a_round_and_then_the_median_of_them():
    """A round in which everything was half as fast says the same as the others."""
    echo = [measured(requests=n) for n in (1000, 500, 1200)]
    service = [measured(requests=n) for n in (700, 350, 900)]
    first, second = figures({"echo": echo, "service": service})
    assert first.share == Spread(1.0, 1.0, 1.0)
    assert second.share == Spread(0.7, 0.7, 0.75)
    assert second.requests_per_second == Spread(700, 350, 900)


def test_cpu_is_per_request():
    """0.5 s for 1,000 requests are 500 us."""
    windows = {"echo": [measured(requests=1000, server=0.5), measured(requests=500, server=0.5)]}
    (only,) = figures(windows)
    assert only.cpu_us == Spread(750, 500, 1000)


def test_the_ladder_compares_the_least_cpu_with_the_echo_s():
    """The round in which something else ran says nothing about the price."""
    echo = [measured(requests=1000, server=0.5), measured(requests=1000, server=0.9)]
    service = [measured(requests=500, server=1.0), measured(requests=1000, server=1.0)]
    ladder = Ladder(2, 1.0, 16, Cores(None, None), figures({"bare echo": echo, "everything": service}), [])
    (line,) = [line for line in markdown(ladder).splitlines() if line.startswith("| everything")]
    assert line == "| everything | 750 (500..1,000) | 75% (50%..100%) | 1,000.0 | 2.00 | 1,500.0 (1,000.0..2,000.0) |"


def test_where_the_system_does_not_tell_cpu_times_there_are_none():
    """Rates and their shares stay."""
    (only,) = figures({"echo": [measured(requests=1000, server=None)]})
    assert (only.cpu_us, only.server_busy) == (None, None)
    assert only.requests_per_second.median == 1000


@pytest.mark.parametrize(("server", "generator", "bound"), [(0.7, 1.0, True), (1.0, 1.0, False), (0.7, 0.6, False)])
def test_the_generator_is_blamed_where_it_had_no_time_and_the_server_had(server: float, generator: float, bound: bool):
    """Both busy: the server's figure stands."""
    (only,) = figures({"echo": [measured(requests=1000, server=server, generator=generator)]})
    assert only.generator_bound is bound


def test_a_round_in_which_something_else_was_running_is_told_of():
    """The server had half of its core, and the generator was not to blame."""
    rounds = [measured(requests=1000, server=1.0), measured(requests=500, server=0.5)]
    (only,) = figures({"echo": rounds})
    assert not only.generator_bound
    assert [line for line in remarks([only]) if "50%" in line]
    assert remarks(figures({"echo": rounds[:1]})) == []


def test_a_spread_is_the_median_between_the_extremes():
    """Of an even number of values, the middle between the two."""
    assert spread([3, 1, 2, 10]) == Spread(2.5, 1, 10)
    assert shown(Spread(1234.5, 1000, 2000), ",.0f") == "1,234 (1,000..2,000)"


def test_every_round_begins_with_another_one():
    """After as many rounds as there are servers, each has been first."""
    assert [rotated("abc", turn) for turn in range(4)] == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], [*"abc"]]


def test_a_table_is_markdown():
    """Text to the left, numbers to the right."""
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


# --- the generator ----------------------------------------------------------------------------------------------------


def test_requests_are_workouts_of_which_no_two_have_the_same_id():
    """Each announces its own length, and holds what the service takes."""
    made = list(itertools.islice(requests(plan(1)), 10))
    heads, bodies = zip(*(request.split(b"\r\n\r\n") for request in made), strict=True)
    assert [parse_workout(body).id for body in bodies] == list(range(FIRST_ID, FIRST_ID + 10))
    assert all(f"Content-Length: {len(body)}".encode() in head for head, body in zip(heads, bodies, strict=True))


def test_ids_come_again_where_only_so_many_are_wanted():
    """And a limit ends the run."""
    made = requests(plan(1, different_ids=2, limit=5))
    ids = [json.loads(request.partition(b"\r\n\r\n")[2])["id"] - FIRST_ID for request in made]
    assert ids == [0, 1, 0, 1, 0]


def test_rows_are_generated_where_there_is_no_holdout(tmp_path: Path):
    """The same ones each time, and all of them plausible to the service."""
    made = rows(tmp_path / "none.csv")
    assert made == generated(len(made))
    assert all(parse_workout(json.dumps({"id": 1, **row}).encode()) for row in made)


@pytest.mark.slow
def test_rows_are_those_of_the_holdout(workshop: Workshop):
    """Without truth and id, with all the service needs."""
    read = rows(workshop.stream)
    assert read
    assert all(parse_workout(json.dumps({"id": 1, **row}).encode()) for row in read)


@pytest.mark.parametrize("name", ["content-length", "Content-Length"])
def test_an_answer_lacks_what_its_head_announces(name: str):
    """None while the head itself is not complete."""
    head = f"HTTP/1.1 200 OK\r\nserver: x\r\n{name}: 10\r\n\r\n".encode()
    assert [missing(head[:-1]), missing(head), missing(head + b"1234"), missing(head + b"1234567890")] == [
        None,
        10,
        6,
        0,
    ]


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"?\r\n\r\n"],
)
def test_what_is_not_a_complete_200_is_void(answer: bytes):
    """And says what was answered."""
    with pytest.raises(Void, match=answer.partition(b"\r")[0].decode().replace("?", r"\?")):
        missing(answer)


@contextmanager
def refusing() -> Iterator[int]:
    """A server that answers 501 to every POST."""
    handler = type("Handler", (BaseHTTPRequestHandler,), {"log_message": print})
    with serving(HTTPServer(("127.0.0.1", 0), handler)) as server:
        yield server.server_port


def test_a_run_with_another_status_than_200_is_void():
    """No number comes out of it, but what was answered."""
    with refusing() as port, pytest.raises(Void, match="501"):
        loaded(plan(port, connections=1), core=None)


def test_a_run_without_a_server_is_void():
    """Nothing listens."""
    with pytest.raises(Void, match="refused"):
        loaded(plan(free_port()), core=None)


class _Fake:
    """Remembers when it was stopped."""

    def __init__(self) -> None:
        self.frozen = False

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False


def test_while_one_server_is_measured_the_others_are_frozen():
    """Every server in every round, each time in another order."""
    servers: dict[str, Any] = {name: _Fake() for name in "abc"}
    order = []

    def run(name: str, turn: int) -> Window:
        order.append((turn, name))
        assert [other for other, server in servers.items() if not server.frozen] == [name]
        return measured(requests=turn + 1)

    windows = in_turns(servers, 2, run, lambda _: None)
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a")]
    assert {name: [each.requests for each in own] for name, own in windows.items()} == {name: [1, 2] for name in "abc"}


# --- the collector ----------------------------------------------------------------------------------------------------


SPAN = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "POST /predict",
    "kind": 2,
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": "1544712661000000000",
}


def test_requests_are_counted_over_all_resources_and_scopes():
    """As an exporter packs their spans, in JSON; a step of a request is none."""
    step = SPAN | {"name": "score", "kind": 1}
    export = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN, step, SPAN]}, {"spans": [step, SPAN]}]}] * 2}
    assert spans_in(json.dumps(export).encode(), "application/json") == 6


def test_what_is_no_span_is_not_counted():
    """A trace id in another form than OTLP's."""
    export = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN | {"traceId": "W47/95gDgQPSabYzgT/GDA=="}]}]}]}
    with pytest.raises(msgspec.ValidationError):
        spans_in(json.dumps(export).encode(), "application/json")


def test_lost_spans_make_the_measurement_void():
    """What was dropped cost nothing; a share that chance explains is good."""
    demand_spans([Arrived("traces", requests=100_000, spans=10_100), Arrived("logs", 100, 15)])
    with pytest.raises(Void, match=r"8\.00%"):
        demand_spans([Arrived("traces", requests=100_000, spans=8_000)])

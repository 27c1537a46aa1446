"""Peers are asked the same, believed only where they answer right, and missing ones do not stop the others."""

import itertools
import json
import math
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from calsvc.http.schema import parse_workout
from calsvc.model.features import row_function
from tests.bench.figures import Spread
from tests.bench.load import Plan, Window, requests
from tests.bench.machine import Machine
from tests.bench.peers.asking import Wrong, answered, demand_agreement, kcal_of
from tests.bench.peers.declared import PEERS, SERVERS, Peer
from tests.bench.peers.making import ROOT, once, pins, reason
from tests.bench.peers.report import CALSVC, ECHO, Line, Peers, lines, markdown, page
from tests.bench.peers.wire import PLACE_OF_ID, Question, Template, number_at, questions, template
from tests.bench.processes import Cores
from tests.bench.workouts import FIRST_ID, generated
from tests.handouts import ALL_FEATURES
from tests.serving import serving

FEATURES = list(ALL_FEATURES)
ANSWERS = {
    "plan": b'{"id":1000000000,"Calories":220.5}',
    "mlflow": b'{"predictions": [220.5]}',
    "bentoml": b"220.5",
    "bentoml, batching": b"[220.5]",
    "mlserver": b'{"model_name":"calories","id":"1","parameters":{},"outputs":[{"name":"predict","shape":[1,1],'
    b'"datatype":"FP32","parameters":{"content_type":"np"},"data":[220.5]}]}',
    "mlserver, batching": b'{"model_name":"calories","id":"1","outputs":[{"name":"predict","data":[220.5]}]}',
}
"""What the servers answered when they were looked at, with another number."""


def question() -> Question:
    """One of the generator's rows."""
    return questions(generated(1), FEATURES)[0]


def sent(request: Template) -> tuple[dict[str, str], bytes]:
    """Headers and body of the first request that the generator would make of a template."""
    plan = Plan(port=1, pid=1, templates=[request])
    head, _, body = next(requests(plan)).partition(b"\r\n\r\n")
    fields = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return {name.lower(): value for name, value in fields}, body


def window(per_second: int) -> Window:
    """A window of a second."""
    return Window(seconds=1.0, requests=per_second, total=per_second, server_cpu=0.5, generator_cpu=0.1)


@contextmanager
def answering(answer: Callable[[bytes], tuple[int, bytes]]) -> Iterator[int]:
    """Run a real HTTP server; yield its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, content = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield server.server_address[1]


def test_features_reach_the_trees_as_calsvc_computes_them():
    """What is sent, read as float32, is bit for bit what calsvc casts to float32."""
    rows = generated(50)
    exact = [row_function(FEATURES)(parse_workout(json.dumps({"id": 0, **row}).encode())) for row in rows]
    through_json = [json.loads(json.dumps(each.features)) for each in questions(rows, FEATURES)]
    assert np.array_equal(np.array(through_json, dtype=np.float32), np.array(exact, dtype=np.float32))


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peers_request_is_whole(peer: Peer):
    """Its length is the announced one, it is JSON, and it carries an id, in the body or else in a header."""
    headers, body = sent(template(peer.path, peer.body(question())))
    assert len(body) == int(headers["content-length"])
    carried = json.loads(body).get("id", headers.get("x-request-id"))
    assert int(carried) == FIRST_ID


def test_the_plan_is_sent_what_calsvc_is_sent():
    """The peer with feature engineering gets the very record."""
    asked = question()
    (plan,) = [peer for peer in PEERS if peer.name == "plan"]
    assert template(plan.path, plan.body(asked)) == template("/predict", {"id": PLACE_OF_ID, **asked.row})


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_the_number_is_found_in_a_peers_answer(peer: Peer):
    """In answers as the servers gave them."""
    assert peer.number(ANSWERS[peer.name]) == 220.5


def test_agreement_is_demanded_to_a_thousandth():
    """A little off is rounding; more, or no number at all, is another model."""
    assert demand_agreement([100.05, 200.0], [100.0, 200.0]) == pytest.approx(5e-4)
    for wrong in (100.2, math.nan, math.inf):
        with pytest.raises(Wrong, match="wrong answers"):
            demand_agreement([100.0, wrong], [100.0, 100.0])


@pytest.mark.slow
def test_answers_come_in_the_order_of_the_questions():
    """Although many are asked at the same time."""
    with answering(lambda body: (200, body)) as port:
        numbered = [template("/", {"number": number}) for number in range(50)]
        assert kcal_of(port, numbered, number_at("number")) == list(range(50))


@pytest.mark.parametrize(
    ("status", "content"), [(503, b'{"number": 1}'), (200, b"<html>"), (200, b"{}"), (200, b'{"number": null}')]
)
def test_an_answer_of_another_form_is_wrong(status: int, content: bytes):
    """It is shown with its status, for whoever has to find out."""
    with (
        answering(lambda _: (status, content)) as port,
        pytest.raises(Wrong, match=f"answered {status}: {content[:5].decode()}"),
    ):
        kcal_of(port, [template("/", {})], number_at("number"))


def test_only_a_200_is_an_answer():
    """A server that is starting answers something else, or nothing."""
    with answering(lambda _: (503, b"")) as port:
        assert not answered(port, template("/", {}))
    assert not answered(port, template("/", {}))


def test_ratios_are_of_a_round_and_the_missing_are_listed():
    """A slow round slows both; who has no figures keeps the line, with the reason."""
    windows = {ECHO: [window(400), window(200)], CALSVC: [window(200), window(100)], "plan": [window(20), window(10)]}
    found = lines(windows, dict.fromkeys([*windows, "mlflow"], "a remark"), {"mlflow": "no such wheel"})
    assert [each.calsvc_times for each in found] == [Spread(*[0.5] * 3), Spread(*[1] * 3), Spread(*[10] * 3), None]
    assert [each.missing for each in found] == [None, None, None, "no such wheel"]


def test_the_table_shows_every_server():
    """One line each; a missing one says why."""
    speed = Spread(1234.5, 1000, 2000)
    result = Peers(
        machine=Machine("2030-01-01", "a processor", 2, None, "Linux", "CPython", {}, None, "a model"),
        rounds=3,
        seconds=1,
        connections=16,
        cores=Cores(0, 1),
        trees=7,
        lines=[
            Line(name=CALSVC, remark="itself", requests_per_second=speed, calsvc_times=Spread(1, 1, 1)),
            Line(name="plan", remark="old", requests_per_second=speed, cpu_us=speed, calsvc_times=Spread(80, 78, 85)),
            Line(name="mlflow", remark="new", missing="no such wheel"),
        ],
    )
    assert markdown(result).splitlines()[1:5] == [
        "| --- | ---: | ---: | ---: | --- |",
        "| calsvc | 1,234 (1,000..2,000) |  | 1 | itself |",
        "| plan | 1,234 (1,000..2,000) | 1,234 (1,000..2,000) | 80.0 (78.0..85.0) | old |",
        "| mlflow |  |  |  | not measured: no such wheel (new) |",
    ]
    assert "a processor" in page(result)


def test_the_reason_is_the_telling_line_without_our_folder():
    """Of a long output only the error is kept, and nothing of this machine's paths."""
    error = RuntimeError(f"INFO: on\nImportError: {ROOT}/a | b\nINFO: off")
    assert reason(error) == "ImportError: ./a / b"
    failed = subprocess.CalledProcessError(1, ["uv"], stderr="  x No solution found:\n  `-> no such version\n")
    assert reason(failed) == "`-> no such version"
    assert reason(TimeoutError()) == "TimeoutError"


def test_a_folder_is_made_once_for_its_key(tmp_path: Path):
    """Another key makes it anew, and so does a making that broke off."""
    folder, numbers = tmp_path / "made", itertools.count()

    def make() -> None:
        folder.mkdir()
        (folder / "content").write_text(str(next(numbers)))

    def broken() -> None:
        make()
        raise RuntimeError

    def content(key: str) -> str:
        once(folder, key, make)
        return (folder / "content").read_text()

    assert [content("a"), content("a"), content("b")] == ["0", "0", "1"]
    with pytest.raises(RuntimeError):
        once(folder, "c", broken)
    assert content("c") == "3"


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_requirements_are_pinned(peer: Peer):
    """Every line names one version; what is measured today can be measured again."""
    wanted = (SERVERS / f"{peer.venv}.txt").read_text().splitlines()
    assert len(pins(peer.venv)) == len(wanted)


def test_the_plan_unpickles_what_this_environment_pickles():
    """Its artefact is made here and loaded there: the same versions on both sides."""
    ours = ("joblib", "pandas", "scikit-learn", "xgboost-cpu")
    assert {name: pins("plan")[name] for name in ours} == {name: version(name) for name in ours}

"""Three replicas behind a proxy: what Prometheus adds up is what was sent, whatever happens to one of them."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from streamsim.compare import total
from streamsim.report import Report, compute, read_record
from streamsim.service_view import read_metrics
from tests.conftest import Workshop
from tests.http.test_schema import workout
from tests.live.fleet import Fleet, Replica, running_fleet
from tests.live.prometheus import JOB, Prometheus, prometheus_server
from tests.live.test_traces import simulator
from tests.needs import needs
from tests.service_process import PATIENCE

pytestmark = needs("haproxy", "prometheus", "redis-server")

RATE = 150
"""Predictions a second in a burst, and truths."""
BURSTS = ["--on", "4", "--off", "2", "--cycles", "5", "--feedback-delay", "4"]
SCRAPE = 1.0
"""Seconds between two scrapes in these tests."""


def test_quality_adds_up_over_replicas_that_come_and_go(workshop: Workshop, tmp_path: Path):
    """One is killed and one added under bursts with truth: RMSLE, MAE and coverage are those of the record."""
    with (
        running_fleet(tmp_path, workshop.environ() | {"CALSVC_FEEDBACK_DELAY": "4"}, 3, later=1) as fleet,
        prometheus_server(tmp_path, {JOB: [each.url for each in fleet.replicas]}) as prometheus,
    ):
        prometheus.wait_for_scrapes()
        with simulator(tmp_path, workshop, fleet.url, {}, "--rps", str(RATE), *BURSTS) as process:
            wait_for_predictions(prometheus, RATE)
            fleet.replicas[0].signal(signal.SIGKILL)
            wait_for_predictions(prometheus, 3 * RATE)
            fleet.replicas[3].start()
            assert process.wait(PATIENCE * 2) == 0, (tmp_path / "simulator.log").read_text()
        report, offline = reports(tmp_path)
        prometheus.wait_for_scrapes()
        seen = Added(prometheus)
    assert report["acknowledged"] == RATE * 4 * 5
    assert report["errors"] == {}
    assert report["owed"] == 0
    # Every acknowledged prediction was matched, once: a truth whose answer was lost is a duplicate the second time.
    assert set(report["delivered"]) <= {"matched", "duplicate"}
    assert sum(report["delivered"].values()) == report["acknowledged"] == offline.joined
    lost = report["acknowledged"] * (SCRAPE + 1) / 30  # what the killed one had counted since its last scrape, at most
    assert offline.joined - lost <= seen.matched <= offline.joined + 1
    assert offline.acknowledged - lost <= seen.predictions <= offline.acknowledged * 1.02
    assert seen.rmsle == pytest.approx(offline.rmsle, rel=0.02)
    assert seen.mae == pytest.approx(offline.mae, rel=0.02)
    assert seen.coverage == pytest.approx(1.0, abs=0.04)
    assert seen.pending == 0


class Added:
    """What Prometheus makes of all replicas, those that are gone among them."""

    def __init__(self, prometheus: Prometheus) -> None:
        def one(expression: str) -> float:
            (sample,) = prometheus.query(expression)
            return sample.value

        self.rmsle = one('calsvc:rmsle:5m{role="champion"}')
        self.mae = one('calsvc:mae_kcal:5m{role="champion"}')
        self.coverage = one('calsvc:coverage:5m{basis="window"}')
        # Not increase(), which extrapolates: the highest value of each, and a replica that died keeps what it had.
        self.matched = one("sum(max_over_time(calsvc_quality_matched_total[10m]))")
        self.predictions = one("sum(max_over_time(calsvc_predictions_total[10m]))")
        self.pending = one("max(calsvc_pending_predictions)")


def test_a_rolling_restart_fails_no_request(workshop: Workshop, tmp_path: Path):
    """All three, one after the other, under 300 predictions a second and as many truths; idle connections go on."""
    with running_fleet(tmp_path, workshop.environ() | {"CALSVC_FEEDBACK_DELAY": "2"}, 3) as fleet:
        arguments = ["--rps", "300", "--on", "1", "--off", "0", "--feedback-delay", "2"]
        with idle_connections(fleet) as idle, simulator(tmp_path, workshop, fleet.url, {}, *arguments) as process:
            wait_for(lambda: predictions(fleet.replicas) > 300)
            for each in fleet.replicas:
                assert each.stop() == 0, each.said()
                each.start()
                wait_for(lambda each=each: predictions([each]) > 300)
            assert [used(connection) for connection in idle] == [200] * len(idle)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0, (tmp_path / "simulator.log").read_text()
        report, _ = reports(tmp_path)
    assert report["acknowledged"] > 1000
    assert (report["errors"], report["not_sent"], report["retries"], report["resent"]) == ({}, 0, {}, 0)
    assert report["delivered"].keys() <= {"matched"}
    for each in fleet.replicas:
        assert "Traceback" not in each.said()


@contextmanager
def idle_connections(fleet: Fleet) -> Iterator[list[HTTPConnection]]:
    """Connections to the proxy that have been used once."""
    opened = [HTTPConnection(urlsplit(fleet.url).netloc, timeout=PATIENCE) for _ in range(20)]
    try:
        assert [used(each) for each in opened] == [200] * len(opened)
        yield opened
    finally:
        for each in opened:
            each.close()


def used(connection: HTTPConnection) -> int:
    """Ask for a prediction; return the status."""
    connection.request("POST", "/predict", workout(id=f"idle {id(connection)}"), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def predictions(replicas: Sequence[Replica]) -> float:
    """What they say that they have answered."""
    return sum(total(read_metrics(each.url), "calsvc_predictions_total") or 0.0 for each in replicas)


def wait_for_predictions(prometheus: Prometheus, number: int) -> None:
    """Wait until Prometheus has seen so many, of all replicas."""
    expression = f"sum(calsvc_predictions_total) > {number}"
    prometheus.wait_for(f"{number} predictions", lambda: prometheus.query(expression))


def wait_for(holds: Callable[[], object]) -> None:
    """Ask again and again."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def reports(folder: Path) -> tuple[Any, Report]:
    """The simulator's own report, and what its record says of the model."""
    return json.loads((folder / "report.json").read_text()), compute(read_record(folder / "record.ndjson"))

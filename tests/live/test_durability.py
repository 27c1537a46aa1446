"""One replica with its file: what a restart remembers, of a real process under load."""

import signal
from pathlib import Path

import pytest

from tests.conftest import Workshop
from tests.live.fleet import Replica, running
from tests.live.test_replicas import predictions, reports, wait_for
from tests.live.test_traces import simulator
from tests.service_process import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.alone]

RATE = 500
"""Predictions a second, and truths."""
LOSS = 0.1
"""Seconds of predictions that a killed process may lose."""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_under_load_remembers_what_waits(workshop: Workshop, tmp_path: Path, how: signal.Signals):
    """Killed at 500/s: at most 100 ms of what was acknowledged is unknown to the next process; told to go: nothing."""
    environ = workshop.environ() | {
        "CALSVC_STORE": f"sqlite:///{tmp_path}/waiting.db",
        "CALSVC_DRAIN_DELAY": "0.2",
        "CALSVC_FEEDBACK_DELAY": "3",
    }
    arguments = ["--rps", str(RATE), "--on", "12", "--cycles", "1", "--feedback-delay", "3", "--max-errors", "100"]
    service = Replica(tmp_path, environ)
    with running(service), simulator(tmp_path, workshop, service.url, {}, *arguments) as process:
        wait_for(lambda: predictions([service]) > 4 * RATE)
        service.stop(how)
        service.start()
        assert process.wait(2 * PATIENCE) == 0, (tmp_path / "simulator.log").read_text()
    report, offline = reports(tmp_path)
    unknown = report["acknowledged"] - offline.joined
    assert report["acknowledged"] > 6 * RATE
    assert report["owed"] == 0
    assert report["delivered"].get("unknown", 0) == unknown
    assert unknown <= (RATE * LOSS if how is signal.SIGKILL else 0)

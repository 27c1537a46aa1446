"""A real MLflow server, and a real Prometheus that has watched a burst, for the tests that need one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Workshop
from tests.live.burst import Sent, send_burst
from tests.live.program import answers
from tests.live.prometheus import JOB, SIMULATOR, Prometheus, prometheus_server
from tests.service_process import PATIENCE, ServiceProcess, free_port, service_process

BURST = 100
"""Records that the simulator sends."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server that `just mlflow` starts, on a free port, with its files in the test's folder."""
    port = free_port()
    with (tmp_path / "mlflow.log").open("wb") as log:
        command = [sys.executable, "-m", "calsvc.training.mlflow_ui", "--port", str(port)]
        server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + PATIENCE
            while not answers(f"{url}/health"):
                assert server.poll() is None, (tmp_path / "mlflow.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.1)
            yield url, server
        finally:
            stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and the workers of its session."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
    server.wait(PATIENCE)


class Observed(NamedTuple):
    """A service after a burst, the Prometheus that has watched it, and what was sent.

    `streamed_to`: a service of its own, not scraped, that a simulator has sent to, which is scraped and still runs.
    """

    prometheus: Prometheus
    service: ServiceProcess
    sent: Sent
    streamed_to: ServiceProcess


@pytest.fixture(scope="session")
def observed(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """One burst for every test that has a query: all processes are still there, Prometheus still scrapes.

    All requests are traced, and nobody takes the spans. Four requests at a time are let in.
    """
    folder = tmp_path_factory.mktemp("observed")
    environ = workshop.environ() | {
        "CALSVC_FEEDBACK_DELAY": "1",
        "CALSVC_MAX_IN_FLIGHT": "4",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "NO_PROXY": "127.0.0.1",
    }
    port = free_port()
    with (
        service_process(folder, environ) as service,
        service_process(folder, workshop.environ()) as streamed_to,
        prometheus_server(folder, {JOB: [service.url], SIMULATOR: [f"http://127.0.0.1:{port}"]}) as prometheus,
    ):
        prometheus.wait_for_scrapes()  # so that the counters are seen at 0
        with simulator(folder, streamed_to.url, workshop.stream, port):
            sent = send_burst(service, lambda: prometheus.wait_for_scrapes(1))
            prometheus.wait_for("every truth", lambda: prometheus.query(ALL_DELIVERED))
            prometheus.wait_for_scrapes()
            yield Observed(prometheus, service, sent, streamed_to)


ALL_DELIVERED = f"streamsim_planned_total == {BURST} and on () streamsim_feedback_owed == 0"


@contextmanager
def simulator(folder: Path, url: str, rows: Path, port: int) -> Iterator[None]:
    """Run a simulator that has sent its burst after five seconds, its truth a second later, and then stays."""
    command = [sys.executable, "-m", "streamsim", "stream", "--url", url, "--data", str(rows)]
    command += ["--rps", f"{BURST / 5:g}", "--on", "5", "--off", "86400", "--feedback-delay", "1"]
    command += ["--journal", str(folder / "owed.db"), "--metrics-port", str(port)]
    with (folder / "simulator.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            yield
            assert process.poll() is None, (folder / "simulator.log").read_text()
        finally:
            process.terminate()
            process.wait(PATIENCE)

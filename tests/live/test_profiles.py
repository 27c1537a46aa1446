"""Profiles where they arrive: what a real Pyroscope server answers about a real service."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.bench.load import Plan
from tests.bench.measure import loaded
from tests.bench.workouts import generated, templates
from tests.conftest import Workshop
from tests.live.pyroscope import Pyroscope, running_pyroscope
from tests.needs import needs
from tests.service_process import PATIENCE, ServiceProcess, service_process

pytestmark = [needs("pyroscope"), pytest.mark.alone]

REQUESTS = 150_000
"""To one endpoint: seconds of work, and at 20 samples a second enough of them to see every larger part of it."""
RECORDS = 1000
COLLECTED = 11.0
"""Seconds, more than the client collects before it sends."""


@pytest.fixture(scope="module")
def pyroscope(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyroscope]:
    """A server with nothing in it."""
    with running_pyroscope(tmp_path_factory.mktemp("pyroscope")) as server:
        yield server


@pytest.fixture(scope="module")
def version(workshop: Workshop, pyroscope: Pyroscope, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model of a service that was busy with predictions, then with truths, and has sent its profiles."""
    environ = {**workshop.environ(), "PYROSCOPE_SERVER_ADDRESS": pyroscope.url, "NO_PROXY": "127.0.0.1"}
    with service_process(tmp_path_factory.mktemp("profiled"), environ) as service:
        told: str = json.loads(service.call("/info")[2])["model"]["version"]
        press(service, templates(generated(RECORDS)))
        until = time.monotonic() + COLLECTED
        while time.monotonic() < until:  # what it has collected last may be lost where the process ends
            press(service, templates([{"Calories": 77.0}], "/feedback"))
        assert service.stop() == 0
        assert "Pyroscope" not in service.output()
    pyroscope.wait_for("the service's profile", lambda: pyroscope.functions('{service_name="calsvc"}'))
    return told


def press(service: ServiceProcess, requests: list[tuple[bytes, bytes]]) -> None:
    """Load one endpoint with the same records again and again; anything but a 200 is an error."""
    port = int(service.url.rpartition(":")[2])
    plan = Plan(port=port, pid=service.process.pid, templates=requests, seconds=PATIENCE, limit=REQUESTS)
    plan.different_ids = RECORDS
    loaded(plan, None)


def test_profiles_are_told_apart_by_model(pyroscope: Pyroscope, version: str):
    """The version is a label to select and to compare by; no request has labels of its own."""
    pyroscope.wait_for("a model", lambda: pyroscope.values("model_version", '{service_name="calsvc"}'))
    assert pyroscope.values("model_version", '{service_name="calsvc"}') == [version]
    assert pyroscope.values("endpoint", '{service_name="calsvc"}') == []


def test_a_profile_shows_what_each_call_does(pyroscope: Pyroscope, version: str):
    """ONNX Runtime's time is there, under the Python function that called it, and so is the work on truths."""
    selector = f'{{service_name="calsvc", model_version="{version}"}}'

    def seen(function: str) -> list[str]:
        return [name for name in pyroscope.functions(selector) if name.endswith(function)]

    # A service that was busy for longer than a client collects has sent more than one profile.
    pyroscope.wait_for("a sample of scoring", lambda: seen("OnnxScorer._margins_of"))
    pyroscope.wait_for("a sample of feedback", lambda: seen("Service.learn"))

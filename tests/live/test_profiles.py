"""Profiles where they arrive: what a real Pyroscope server answers about a real service, and about a span."""

import json
from collections.abc import Iterator

import pytest

from tests.bench.load import Plan
from tests.bench.measure import loaded
from tests.bench.workouts import generated, templates
from tests.conftest import Workshop
from tests.live.pyroscope import Pyroscope, running_pyroscope
from tests.needs import needs
from tests.observability.test_profiles import CHILD, run_child
from tests.service_process import PATIENCE, ServiceProcess, service_process

pytestmark = [needs("pyroscope"), pytest.mark.alone]

REQUESTS = 150_000
"""To one endpoint: seconds of work, and at 20 samples a second enough of them to see every larger part of it."""
RECORDS = 1000


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


def test_profiles_are_told_apart_by_endpoint_and_model(pyroscope: Pyroscope, version: str):
    """Both are labels to select and to compare by; work that is no request's has no endpoint."""
    pyroscope.wait_for("both", lambda: len(pyroscope.values("endpoint", '{service_name="calsvc"}')) > 1)
    assert set(pyroscope.values("endpoint", '{service_name="calsvc"}')) == {"/predict", "/feedback"}
    assert pyroscope.values("model_version", '{service_name="calsvc"}') == [version]


def test_a_prediction_s_profile_shows_its_scoring(pyroscope: Pyroscope, version: str):
    """ONNX Runtime's time is there, under the Python function that called it, and little of it under feedback."""
    selector = f'{{service_name="calsvc", model_version="{version}", endpoint="%s"}}'

    def seen(path: str, function: str) -> list[str]:
        return [name for name in pyroscope.functions(selector % path) if name.endswith(function)]

    # A service that was busy for longer than a client collects has sent more than one profile.
    scoring = pyroscope.wait_for("a sample of scoring", lambda: seen("/predict", "OnnxScorer.score"))
    pyroscope.wait_for("a sample of feedback", lambda: seen("/feedback", "Direct.__call__"))
    predict, feedback = (pyroscope.functions(selector % path) for path in ("/predict", "/feedback"))
    for name in scoring:
        assert feedback.get(name, 0) < predict[name] / 10


def test_a_span_has_its_own_profile(pyroscope: Pyroscope):
    """By the id under which the trace's span leads here: what it did, and nothing of what ran beside it."""
    child = run_child(pyroscope.url, CHILD)
    assert (child.returncode, child.stderr) == (0, "")
    selector = '{service_name="calsvc-test"}'
    seen = pyroscope.wait_for("the child's profile", lambda: pyroscope.functions(selector))
    assert {"answering", "learning"} <= {name.rpartition(" ")[2] for name in seen}
    of_span = {name.rpartition(" ")[2] for name in pyroscope.functions(selector, ["00f067aa0ba902b7"])}
    assert "answering" in of_span
    assert "learning" not in of_span

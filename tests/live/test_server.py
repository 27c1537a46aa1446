"""The service as a process: starting, refusing to start, draining, and what it does to a body that is too long."""

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.conftest import Workshop, run_module
from tests.handouts import write_handout
from tests.http.test_schema import WORKOUT, workout
from tests.service_process import ROOT, free_port, service_process


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_with_0_when_it_is_told_to(workshop: Workshop, tmp_path: Path, how: signal.Signals):
    """A signal is the normal end, and prints nothing that looks like a failure."""
    with service_process(tmp_path, workshop.environ()) as service:
        assert service.call("/predict", WORKOUT)[0] == 200
        assert service.stop(how) == 0
        assert "Traceback" not in service.output()


def test_it_answers_on_while_it_drains(workshop: Workshop, tmp_path: Path):
    """After SIGTERM: not ready, alive, and every request answered until the drain delay has passed."""
    environ = workshop.environ() | {"CALSVC_DRAIN_DELAY": "1"}
    with service_process(tmp_path, environ) as service:
        service.process.send_signal(signal.SIGTERM)
        service.wait_until("/readyz", 503)
        assert service.call("/livez")[0] == 200
        assert service.call("/predict", WORKOUT)[0] == 200
        assert service.process.wait(30) == 0


def test_a_second_signal_does_not_wait(workshop: Workshop, tmp_path: Path):
    """Who asks twice means now: a drain delay of ten minutes is cut short."""
    environ = workshop.environ() | {"CALSVC_DRAIN_DELAY": "600"}
    with service_process(tmp_path, environ) as service:
        service.process.send_signal(signal.SIGTERM)
        service.wait_until("/readyz", 503)
        assert service.stop() == 0


def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path):
    """Exit code 2, and the line names key, value and what is accepted."""
    stopped = run_module(tmp_path, "calsvc", CALSVC_PORT="eighty")
    assert stopped.returncode == 2
    assert stopped.stderr == "error: CALSVC_PORT='eighty': expected an integer 0..65535 (0: any free port)\n"


def test_a_port_in_use_is_said_in_one_line(workshop: Workshop, tmp_path: Path):
    """No traceback for the most common mistake."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        stopped = run_module(tmp_path, "calsvc", **workshop.environ(), CALSVC_PORT=port)
    assert stopped.returncode == 2
    assert stopped.stderr.startswith(f"error: CALSVC_PORT='{port}': expected a port that is free on 127.0.0.1")
    assert stopped.stderr.count("\n") == 1


def test_an_altered_bundle_is_not_served(workshop: Workshop, tmp_path: Path):
    """One byte of the model differs: one line, exit code 1."""
    altered = tmp_path / "altered"
    altered.mkdir()
    for file in workshop.bundle.iterdir():
        (altered / file.name).write_bytes(file.read_bytes())
    content = bytearray((altered / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (altered / "model.onnx").write_bytes(content)
    environ = {"CALSVC_MODEL": str(altered), "CALSVC_STORE": "memory://", "CALSVC_PORT": str(free_port())}
    stopped = run_module(ROOT, "calsvc", **environ)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("error: ")
    assert "model.onnx" in stopped.stderr
    assert stopped.stderr.count("\n") == 1


@pytest.mark.slow
def test_it_trains_first_where_there_is_no_bundle(tmp_path: Path):
    """`just serve` with a handout that was never trained: it trains, says so, and answers."""
    handout = write_handout(tmp_path / "new hand out", trees="all")
    environ = {"CALSVC_HANDOUT_DIR": str(handout), "CALSVC_MODEL": str(tmp_path / "data" / "bundle")}
    with service_process(tmp_path, environ, folder_of_process=tmp_path) as service:
        assert service.call("/predict", WORKOUT)[0] == 200
        assert "train" in service.output()


@pytest.mark.slow
def test_a_handout_with_unknown_features_is_served_by_its_own_code(tmp_path: Path):
    """Slower, labelled as such, and right: the reference worker answers; past the limit it sheds."""
    handout = write_handout(tmp_path / "odd hand out", extra_feature="num__Age_cubed_mod7")
    environ = {
        "CALSVC_HANDOUT_DIR": str(handout),
        "CALSVC_MODEL": str(tmp_path / "data" / "bundle"),
        "CALSVC_MAX_IN_FLIGHT": "1",
    }
    with service_process(tmp_path, environ, folder_of_process=tmp_path) as service:
        assert b'"engine":"reference"' in service.call("/info")[2]
        assert service.call("/predict", WORKOUT)[0] == 200
        statuses: list[int] = []
        crowd = [
            threading.Thread(target=lambda: statuses.append(service.call("/predict", WORKOUT)[0])) for _ in range(8)
        ]
        for each in crowd:
            each.start()
        for each in crowd:
            each.join()
        assert set(statuses) <= {200, 503}
        assert 200 in statuses
        assert service.stop() == 0
    assert not list(handout.rglob("__pycache__"))


def test_a_body_of_a_mebibyte_is_refused_and_the_connection_does_not_break_others(workshop: Workshop, tmp_path: Path):
    """413 comes although the body was not read to its end, and the next request is fine."""
    with service_process(tmp_path, workshop.environ()) as service:
        status, headers, content = service.call("/predict", workout(note="x" * 2**20))
        assert (status, headers["content-type"]) == (413, "application/problem+json")
        assert b"65536" in content
        assert service.call("/predict", WORKOUT)[0] == 200


def test_thread_caps_are_half_the_cpus(workshop: Workshop, tmp_path: Path):
    """What /info shows is what the numeric libraries found."""
    half = max(1, len(os.sched_getaffinity(0)) // 2)
    clean = {"OMP_NUM_THREADS": "", "MKL_NUM_THREADS": ""}
    with service_process(tmp_path, workshop.environ() | clean) as service:
        assert f'"OMP_NUM_THREADS":"{half}"'.encode() in service.call("/info")[2]

"""A model's whole life: trained, registered, promoted, served by alias, replaced while it serves, and no registry."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_module
from tests.handouts import write_handout
from tests.http.test_schema import WORKOUT
from tests.live.conftest import stop
from tests.service_process import PATIENCE, ServiceProcess, free_port, service_process

pytestmark = pytest.mark.slow

Info = dict[str, Any]


def told(service: ServiceProcess, expected: Callable[[Info], bool]) -> Info:
    """Ask /info until it says what is expected, within a bounded time."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        info = json.loads(service.call("/info")[2])
        if expected(info):
            return info
        time.sleep(0.05)
    raise TimeoutError(f"{info['model']} {info['challenger']} {service.output()}")


def test_from_training_to_a_registry_that_is_gone(registry: tuple[str, subprocess.Popen[bytes]], tmp_path: Path):
    """Promotion moves the alias; the service follows, shadows the challenger, and outlives the registry."""
    url, server = registry
    handouts = [
        write_handout(tmp_path / "hand out 1", trees="half"),
        write_handout(tmp_path / "hand out 2", trees="best"),
    ]
    environ = {"MLFLOW_TRACKING_URI": url, "CALSVC_HANDOUT_DIR": str(handouts[0])}

    def run(command: str, *arguments: str, **more: str) -> None:
        done = run_module(tmp_path, f"calsvc.training.{command}", *arguments, **(environ | more))
        assert done.returncode == 0, done.stdout + done.stderr

    run("train")
    run("promote")
    run("train", CALSVC_HANDOUT_DIR=str(handouts[1]))
    served = environ | {"CALSVC_MODEL": "models:/calories@champion", "CALSVC_MODEL_POLL": "3600"}

    with service_process(tmp_path, served, folder_of_process=tmp_path) as service:
        info = told(service, lambda info: info["challenger"] is not None)
        assert (info["model"]["registered_version"], info["model"]["alias"]) == ("1", "champion")
        assert (info["challenger"]["registered_version"], info["challenger"]["alias"]) == ("2", "challenger")
        assert service.call("/predict", WORKOUT)[0] == 200
        assert service.call("/feedback", {"id": WORKOUT["id"], "Calories": 145})[0] == 200
        assert b"calsvc_quality_paired_total" in service.call("/metrics")[2]

        run("promote", "--force", "--reason", "the test wants it")
        service.process.send_signal(signal.SIGHUP)
        # The challenger goes a moment after it has become champion.
        info = told(service, lambda info: info["model"]["registered_version"] == "2" and info["challenger"] is None)
        assert info["model"]["previous_version"] != info["model"]["version"]

        stop(server)
        service.process.send_signal(signal.SIGHUP)
        told(service, lambda _: b'outcome="unreachable",role="champion"' in service.call("/metrics")[2])
        status, headers, _ = service.call("/predict", WORKOUT)
        assert (status, headers["x-model-version"]) == (200, info["model"]["version"])

    with service_process(tmp_path, served, folder_of_process=tmp_path) as service:
        assert json.loads(service.call("/info")[2])["model"]["version"] == info["model"]["version"]
        assert url in service.output()  # a warning says which registry is out of reach


def test_no_registry_and_no_copy_is_one_line(tmp_path: Path):
    """Nothing to serve: the reason, and the exit code 1."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    stopped = run_module(
        tmp_path, "calsvc", CALSVC_MODEL="models:/calories@champion", MLFLOW_TRACKING_URI=nowhere, CALSVC_PORT="0"
    )
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("error: ")
    assert nowhere in stopped.stderr
    assert stopped.stderr.count("\n") == 1

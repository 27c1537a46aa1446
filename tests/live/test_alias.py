"""A model's whole life: trained, registered, promoted, served by alias, replaced while it serves, and no registry."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_module
from tests.handouts import write_handout
from tests.service_process import PATIENCE, ServiceProcess, free_port, service_process
from tests.test_schema import WORKOUT

Info = dict[str, Any]


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


def answers(url: str) -> bool:
    """Whether a URL answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - always http://127.0.0.1
            return answer.status == 200
    except OSError:
        return False


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
        info = told(service, lambda info: info["model"]["registered_version"] == "2")
        assert info["challenger"] is None
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

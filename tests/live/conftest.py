"""A real MLflow server for the tests that need one."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service_process import PATIENCE, free_port


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

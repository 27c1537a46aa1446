"""Two ports of one process: records on the one, what operators look at on the other, probes on both."""

import json
import socket
from pathlib import Path

import pytest

from calsvc.http.errors import SettingsError
from calsvc.settings import Settings
from tests.conftest import Workshop, run_module
from tests.http.test_schema import WORKOUT
from tests.service_process import ServiceProcess, free_port, service_process

BOTH = ("/healthz", "/livez", "/readyz", "/openapi.json")
OPERATORS = ("/metrics", "/info", "/", "/static/page.js")


def test_each_port_answers_what_it_is_for_and_nothing_else(workshop: Workshop, tmp_path: Path):
    """404 in the form of every other error; each document names what is to be had at its port."""
    port = free_port()
    with service_process(tmp_path, workshop.environ() | {"CALSVC_ADMIN_PORT": str(port)}) as first:
        second = ServiceProcess(first.process, port, first.log)
        for path in BOTH:
            assert [each.call(path)[0] for each in (first, second)] == [200, 200], path
        for path in (*OPERATORS, "/events"):
            status, headers, _ = first.call(path)
            assert (path, status, headers["content-type"]) == (path, 404, "application/problem+json")
        for path in OPERATORS:
            assert second.call(path)[0] == 200, path
        assert first.call("/predict", WORKOUT)[0] == 200
        for path in ("/predict", "/feedback"):
            assert second.call(path, WORKOUT)[0] == 404
        assert set(json.loads(first.call("/openapi.json")[2])["paths"]) == {"/predict", "/feedback", *BOTH}
        assert set(json.loads(second.call("/openapi.json")[2])["paths"]) == {"/metrics", "/info", *BOTH}
        assert b'calsvc_predictions_total{model_version="' in second.call("/metrics")[2]
        assert first.stop() == 0
        (ready,) = [json.loads(line) for line in first.output().splitlines() if "calsvc.service.ready" in line]
        assert (ready["url"], ready["admin_url"]) == (first.url, second.url)


def test_a_second_port_that_is_taken_is_said_in_one_line(workshop: Workshop, tmp_path: Path):
    """It names the setting that has to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = {"CALSVC_PORT": str(free_port()), "CALSVC_ADMIN_PORT": port}
        stopped = run_module(tmp_path, "calsvc", **workshop.environ(), **ports)
    assert stopped.returncode == 2
    assert stopped.stderr.startswith(f"error: CALSVC_ADMIN_PORT='{port}': expected a port that is free on 127.0.0.1")
    assert stopped.stderr.count("\n") == 1


def test_two_ports_are_not_the_same():
    """But both may be any that is free."""
    with pytest.raises(SettingsError, match="CALSVC_ADMIN_PORT"):
        Settings.from_env({"CALSVC_ADMIN_PORT": "8000"})
    settings = Settings.from_env({"CALSVC_PORT": "0", "CALSVC_ADMIN_PORT": "0", "CALSVC_ADMIN_HOST": "::1"})
    assert (settings.port, settings.admin_port, settings.admin_host) == (0, 0, "::1")

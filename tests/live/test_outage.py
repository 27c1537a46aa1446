"""All that watches the service hangs, dies and comes back, under load: no request notices, and signals return."""

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Workshop
from tests.live.backends import Backend, running_scraper, running_sinks
from tests.live.test_traces import endless, failures, lost, metric, simulator
from tests.needs import needs
from tests.service_process import service_process

pytestmark = [needs("collector", "prometheus", "pyroscope"), pytest.mark.alone]

RATE = 500
"""Predictions a second, and truths."""
QUEUE = 256
"""Spans that may wait: with one request in ten drawn, a second or two of them."""
MEMORY_MIB = 48.0
"""What the service may take more: some thousand predictions wait for their truth, spans and profiles for a server."""


def test_losing_every_backend_costs_no_request(workshop: Workshop, tmp_path: Path):
    """Hung, then killed: nothing fails, memory stays, spans lost are counted, one line tells of the profiles."""
    limits = {"OTEL_BSP_MAX_QUEUE_SIZE": str(QUEUE), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "128"}
    with running_sinks(tmp_path) as sinks:
        collector, pyroscope = sinks
        with (
            service_process(tmp_path, workshop.environ() | sinks.environ | limits) as service,
            running_scraper(tmp_path, service.url) as prometheus,
            simulator(tmp_path, workshop, service.url, {}, *endless(RATE)) as process,
        ):
            backends: list[Backend] = [collector, pyroscope, prometheus]

            begun = time.time()

            def profiled(since: float) -> bool:
                return bool(pyroscope.functions('{service_name="calsvc"}', since=since))

            collector.wait_for("a span", collector.spans)
            collector.wait_for("a scrape", prometheus.sees)
            collector.wait_for("a profile", lambda: profiled(begun))
            assert (lost(service, "overflow"), lost(service, "undelivered")) == (0, 0)
            before = metric(service, "process_resident_memory_bytes")

            for each in backends:
                each.signal(signal.SIGSTOP)
            collector.wait_for("an overflow", lambda: lost(service, "overflow"))
            for each in backends:
                each.signal(signal.SIGKILL)
            collector.wait_for("a lost batch", lambda: lost(service, "undelivered"))
            collector.wait_for("a line about profiles", lambda: "no Pyroscope server" in service.output())
            after = metric(service, "process_resident_memory_bytes")

            back = time.time()
            for each in backends:
                each.start()
            collector.wait_for("a later span", lambda: any(span.start > back * 1e9 for span in collector.spans()))
            collector.wait_for("another scrape", prometheus.sees)
            collector.wait_for("a later profile", lambda: profiled(back))
            collector.wait_for("a line about their return", lambda: "profiles arrive" in service.output())
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0, (tmp_path / "simulator.log").read_text()
            report = json.loads((tmp_path / "report.json").read_text())
            assert service.stop() == 0
            told = re.findall(r"no Pyroscope server|profiles arrive", service.output())
    assert report["acknowledged"] > 0
    assert failures(report) == 0
    assert (after - before) / 2**20 < MEMORY_MIB
    assert told == ["no Pyroscope server", "profiles arrive"]

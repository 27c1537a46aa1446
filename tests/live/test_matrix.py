"""Every signal of the service and of the simulator, seen where it arrives: each cell of the matrix is one test.

One run: real processes with everything on, asked for in Prometheus, the collector, Pyroscope, and on their own stdout.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Workshop
from tests.live.backends import Sinks, running_sinks
from tests.live.collector import CLIENT, SERVER
from tests.live.prometheus import JOB, SIMULATOR, Prometheus, prometheus_server
from tests.live.test_traces import endless, simulator
from tests.needs import needs
from tests.service_process import ServiceProcess, free_port, service_process

RATE = 200
"""Predictions a second, and truths: enough work for a profile of either."""
KINDS = {JOB: SERVER, SIMULATOR: CLIENT}
COUNTS = {JOB: "calsvc_predictions_total", SIMULATOR: 'streamsim_requests_total{call="predict"}'}
BUCKETS = {JOB: "http_server_request_duration_seconds_bucket", SIMULATOR: "streamsim_request_duration_seconds_bucket"}
LIFE = {JOB: "calsvc.service.ready", SIMULATOR: "streamsim.run.started"}


class Everything(NamedTuple):
    """A run that goes on."""

    sinks: Sinks
    prometheus: Prometheus
    service: ServiceProcess
    simulator_log: Path

    def wait_for(self, what: str, ask: Callable[[], Any]) -> Any:
        """Ask again and again until the answer is true, and return it."""
        return self.sinks.collector.wait_for(what, ask)

    def kept(self, who: str) -> set[str]:
        """Traces at the collector in which `who` has answered or asked."""
        return {span.trace for span in self.sinks.collector.spans() if (span.service, span.kind) == (who, KINDS[who])}

    def lines(self, who: str) -> list[dict[str, Any]]:
        """Return whole log lines."""
        text = self.service.output() if who == JOB else self.simulator_log.read_text()
        return [json.loads(line) for line in text.split("\n")[:-1]]


pytestmark = needs("collector", "prometheus", "pyroscope")


@pytest.fixture(scope="module")
def everything(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    """A service and a simulator that send all that they have; truth comes after half a second."""
    folder, port = tmp_path_factory.mktemp("matrix"), free_port()
    with (
        running_sinks(folder) as sinks,
        service_process(folder, workshop.environ() | sinks.environ) as service,
        prometheus_server(folder, {JOB: [service.url], SIMULATOR: [f"http://127.0.0.1:{port}"]}) as prometheus,
    ):
        arguments = [*endless(RATE), "--metrics-port", str(port), "--log", "json"]
        with simulator(folder, workshop, service.url, dict(sinks.environ), *arguments):
            yield Everything(sinks, prometheus, service, folder / "simulator.log")


@pytest.mark.parametrize("who", [JOB, SIMULATOR])
def test_metric(everything: Everything, who: str):
    """Prometheus sees predictions grow."""
    before = everything.wait_for("a count", lambda: total(everything.prometheus, COUNTS[who]))
    everything.wait_for("a higher count", lambda: total(everything.prometheus, COUNTS[who]) > before)


@pytest.mark.parametrize("who", [JOB, SIMULATOR])
def test_trace(everything: Everything, who: str):
    """The collector has spans of predictions and of feedback, with the instance that made them."""
    for name in ("POST /predict", "POST /feedback"):
        everything.wait_for(
            name,
            lambda name=name: [
                span
                for span in everything.sinks.collector.spans()
                if (span.service, span.kind, span.name) == (who, KINDS[who], name)
                and span.resource["service.instance.id"]
            ],
        )


@pytest.mark.parametrize("who", [JOB, SIMULATOR])
def test_log(everything: Everything, who: str):
    """Every line on stdout is JSON with an event's name; the first things are told, the service's with their trace."""
    assert LIFE[who] in [line["event"] for line in everything.lines(who)]
    assert {line["service.name"] for line in everything.lines(who)} == {who}
    if who == JOB:
        everything.wait_for(
            "a line whose trace is kept",
            lambda: {line.get("trace_id") for line in everything.lines(who)} & everything.kept(who),
        )


@pytest.mark.parametrize("who", [JOB, SIMULATOR])
def test_profile(everything: Everything, who: str):
    """Pyroscope has samples of the process, with functions of its own."""
    selector = f'{{service_name="{who}"}}'
    everything.wait_for("a profile", lambda: everything.sinks.pyroscope.functions(selector))


@pytest.mark.parametrize("who", [JOB, SIMULATOR])
def test_exemplar(everything: Everything, who: str):
    """A latency bucket in Prometheus leads to a trace that the collector has kept."""

    def led_to() -> set[str]:
        found = everything.prometheus.exemplars(BUCKETS[who])
        return {each["labels"]["trace_id"] for each in found} & everything.kept(who)

    everything.wait_for("an exemplar whose trace is kept", led_to)


@pytest.mark.parametrize("who", [JOB, SIMULATOR])
def test_link(everything: Everything, who: str):
    """The span of a feedback leads to that of its prediction, in another trace of the same process."""

    def linked() -> bool:
        spans = [span for span in everything.sinks.collector.spans() if (span.service, span.kind) == (who, KINDS[who])]
        predictions = {(span.trace, span.id) for span in spans if span.name == "POST /predict"}
        links = [link for span in spans if span.name == "POST /feedback" for link in span.links]
        return bool(predictions & set(links))

    everything.wait_for("a link", linked)


def total(prometheus: Prometheus, selector: str) -> float:
    """Sum of a counter over its series; 0 without any."""
    return sum(sample.value for sample in prometheus.query(selector))

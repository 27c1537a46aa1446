"""Traces where they arrive: a real service and a real simulator, and what a real collector keeps of their spans."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from observability import signals
from observability.provenance import git_sha
from observability.tracing import SLOW
from streamsim.answers import is_traced
from tests.conftest import Workshop, run_module
from tests.handouts import MODEL_PY, write_handout
from tests.http.test_schema import WORKOUT
from tests.live.collector import CLIENT, INTERNAL, SERVER, Collector, Span, running_collector
from tests.needs import needs
from tests.service_process import PATIENCE, ROOT, ServiceProcess, service_process

pytestmark = needs("collector")

RATE = 300
"""Requests per second of the outage: with its steps, each leaves two spans."""
QUEUE = 512
"""Spans that may wait in the outage: less than a second of them."""
MEMORY_MIB = 32.0
"""What the service may take more during it: some thousand predictions wait for their truth, and the queue."""


class Streamed(NamedTuple):
    """What a run of the simulator has left at the collector."""

    collector: Collector
    service: ServiceProcess
    spans: list[Span]
    traced: int
    """Records that the simulator marked."""

    def of(self, service: str, kind: int, name: str) -> list[Span]:
        """Spans of one kind, those left out that are only there because they were slow."""
        return [
            span for span in self.spans if (span.service, span.kind, span.name) == (service, kind, name) and quick(span)
        ]


def quick(span: Span) -> bool:
    """Whether somebody must have drawn it."""
    return span.seconds < SLOW


@pytest.fixture(scope="module")
def streamed(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streamed]:
    """200 records in two seconds, and their truth a second later."""
    folder = tmp_path_factory.mktemp("streamed")
    with (
        running_collector(folder) as collector,
        service_process(folder, workshop.environ() | collector.senders) as service,
    ):
        arguments = ["--rps", "100", "--on", "2", "--off", "0", "--cycles", "1", "--feedback-delay", "1"]
        with simulator(folder, workshop, service.url, collector.senders, *arguments) as process:
            assert process.wait(PATIENCE) == 0, (folder / "simulator.log").read_text()
        events = [json.loads(line) for line in (folder / "record.ndjson").read_text().splitlines()]
        ids = {json.dumps(event["id"]) for event in events if "id" in event}
        traced = sum(map(is_traced, ids))
        assert traced > 0

        def all_there() -> list[Span] | None:
            spans = collector.spans()
            feedback = [span for span in spans if (span.name, span.kind) == ("POST /feedback", SERVER)]
            predictions = [span for span in spans if (span.name, span.kind) == ("POST /predict", SERVER)]
            clients = [span for span in spans if span.kind == CLIENT]
            whole = min(len(feedback), len(predictions), len(clients) // 2) >= traced
            return spans if whole else None

        spans = collector.wait_for("every span", all_there)
        yield Streamed(collector, service, spans, traced)


@contextmanager
def simulator(
    folder: Path, workshop: Workshop, url: str, environ: dict[str, str], *arguments: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m streamsim stream`, with its journal, record, report and log in `folder`."""
    command = [sys.executable, "-m", "streamsim", "stream", "--url", url, "--data", str(workshop.stream)]
    command += ["--journal", str(folder / "owed.db"), "--record", str(folder / "record.ndjson")]
    command += ["--report", str(folder / "report.json"), "--max-errors", "0", *arguments]
    with (folder / "simulator.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environ, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE)


# --- a run of the simulator -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["POST /predict", "POST /feedback"])
def test_the_services_span_is_below_the_simulators(streamed: Streamed, name: str):
    """One for each request of a traced record, in its trace; aiohttp's span ends with the head of the answer."""
    calls, requests = streamed.of("streamsim", CLIENT, name), streamed.of("calsvc", SERVER, name)
    below = {(span.trace, span.parent): span for span in requests}
    assert calls
    assert len(below) == len(requests)
    for call in calls:
        assert call.parent == ""
        request = below[call.trace, call.id]
        assert call.start <= request.start <= call.end
        assert request.attributes["http.response.status_code"] == call.attributes["http.response.status_code"] == 200


@pytest.mark.parametrize(("name", "step"), [("POST /predict", "score"), ("POST /feedback", "join")])
def test_the_steps_are_below_the_services(streamed: Streamed, name: str, step: str):
    """Scoring in every prediction, joining in every feedback, of which it tells the outcome or the model."""
    requests = {(span.trace, span.id): span for span in streamed.of("calsvc", SERVER, name)}
    steps = {(span.trace, span.parent): span for span in streamed.of("calsvc", INTERNAL, step)}
    version = json.loads(streamed.service.call("/info")[2])["model"]["version"]
    told = {"score": {"model_version": version, "engine": "onnx"}, "join": {"outcome": "matched"}}[step]
    assert requests
    assert requests.keys() <= steps.keys()
    for key, request in requests.items():
        assert request.start <= steps[key].start <= steps[key].end <= request.end
        assert steps[key].attributes == told


def test_a_feedback_leads_to_the_prediction_that_it_judges(streamed: Streamed):
    """By a link: another trace, the prediction's own span, which has arrived as well."""
    predictions = {(span.trace, span.id) for span in streamed.of("calsvc", SERVER, "POST /predict")}
    feedback = streamed.of("calsvc", SERVER, "POST /feedback")
    links = [link for span in feedback for link in span.links]
    assert len(links) == len(set(links))
    assert predictions & set(links)
    assert all(link[0] != span.trace for span in feedback for link in span.links)
    late = {(span.trace, span.id) for span in streamed.spans if span.kind == SERVER and not quick(span)}
    assert set(links) <= predictions | late


def test_every_span_says_whose_it_is(streamed: Streamed):
    """Name, version and instance, and commit; one instance of each."""
    for service in ("calsvc", "streamsim"):
        (resource,) = {json.dumps(span.resource) for span in streamed.spans if span.service == service}
        told = json.loads(resource)
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", told["service.version"])
        assert re.fullmatch(r".+-[0-9a-f]{8}", told["service.instance.id"])
        assert told.get("vcs.ref.head.revision") == git_sha()
    assert {span.service for span in streamed.spans} == {"calsvc", "streamsim"}


def test_what_arrives_is_what_was_declared(streamed: Streamed):
    """Every declared kind of span has arrived, with its attributes, and no other."""
    kinds = {"internal": INTERNAL, "server": SERVER, "client": CLIENT}
    declared = {
        (span.owner, kinds[span.kind], span.name if span.kind == "internal" else ""): span for span in signals.SPANS
    }
    arrived = {(span.service, span.kind, span.name if span.kind == INTERNAL else "") for span in streamed.spans}
    assert arrived == declared.keys()
    for span in streamed.spans:
        attributes = declared[span.service, span.kind, span.name if span.kind == INTERNAL else ""].attributes
        always = {name for name in attributes if not name.startswith("?")}
        assert always <= span.attributes.keys() <= {name.removeprefix("?") for name in attributes}


def test_an_exemplar_leads_to_a_trace(streamed: Streamed):
    """From a bucket of the latency histogram to a span that has arrived."""
    request = urllib.request.Request(  # noqa: S310 - always http://127.0.0.1
        streamed.service.url + "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        text = answer.read().decode()
    samples = [sample for family in parse_openmetrics(text) for sample in family.samples]
    named = {
        (sample.exemplar.labels["trace_id"], sample.exemplar.labels["span_id"])
        for sample in samples
        if sample.exemplar and sample.labels["http_route"] in {"/predict", "/feedback"}
    }
    assert named
    streamed.collector.wait_for(  # a slow one that nobody had drawn may come behind the others
        "the span of every exemplar", lambda: named <= {(span.trace, span.id) for span in streamed.collector.spans()}
    )


# --- what the collector keeps -----------------------------------------------------------------------------------------

SLEEPY, BROKEN = 98, 99
"""Ages at which the handout of this test takes a second, and has no answer."""


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a model that only its handout's own code can answer, and not for every age."""
    folder = tmp_path_factory.mktemp("odd")
    handout = write_handout(folder / "hand out", extra_feature="num__Age_cubed_mod7")
    begin = "    def predict(self, df):\n"
    odd = f"        if (df['Age'] == {SLEEPY}).any():\n            __import__('time').sleep(1)\n"
    odd += f"        if (df['Age'] == {BROKEN}).any():\n            raise ValueError('not at this age')\n"
    (handout / "model.py").write_text(MODEL_PY.replace(begin, begin + odd))
    environ = {"CALSVC_HANDOUT_DIR": str(handout), "CALSVC_MODEL": str(folder / "bundle")}
    train = ["--engine", "reference", "--out", environ["CALSVC_MODEL"]]
    trained = run_module(folder, "calsvc.training.train", *train, **environ)
    assert trained.returncode == 0, trained.stderr
    return environ


def send(service: ServiceProcess, age: int, traceparent: str) -> int:
    """POST /predict below a caller's span; return the status."""
    body = json.dumps(WORKOUT | {"Age": age}).encode()
    headers = {"Content-Type": "application/json", "traceparent": traceparent}
    request = urllib.request.Request(service.url + "/predict", body, headers)  # noqa: S310 - always http://127.0.0.1
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)


def caller(number: int, *, traced: bool) -> str:
    """A caller's place in a trace of its own."""
    return f"00-{number:032x}-{number:016x}-{traced:02x}"


def test_errors_and_slow_requests_are_kept_whoever_was_drawn(odd_model: dict[str, str], tmp_path: Path):
    """Of the rest a share, here none. The service makes such spans even of requests that nobody wanted traced."""
    good, slow, failed, undrawn_slow, undrawn_failed = range(1, 6)
    with (
        running_collector(tmp_path, COLLECTOR_SHARE_PERCENT="0", COLLECTOR_SLOW_MS="500") as collector,
        service_process(tmp_path, odd_model | collector.senders) as service,
    ):
        assert send(service, 40, caller(good, traced=True)) == 200
        assert send(service, SLEEPY, caller(slow, traced=True)) == 200
        assert send(service, BROKEN, caller(failed, traced=True)) == 500
        assert send(service, SLEEPY, caller(undrawn_slow, traced=False)) == 200
        assert send(service, BROKEN, caller(undrawn_failed, traced=False)) == 500  # the last: all others are decided

        def kept() -> dict[int, list[Span]] | None:
            traces: dict[int, list[Span]] = {}
            for span in collector.spans():
                traces.setdefault(int(span.trace, 16), []).append(span)
            return traces if undrawn_failed in traces else None

        traces = collector.wait_for("the last error", kept)
    assert traces.keys() == {slow, failed, undrawn_slow, undrawn_failed}
    assert [span.name for span in traces[slow]] == [span.name for span in traces[failed]] == ["score", "POST /predict"]
    assert [span.error for number in (slow, failed) for span in traces[number]] == [False, False, True, True]
    assert traces[failed][0].attributes["error.type"] == "ScoringError"
    for number in (undrawn_slow, undrawn_failed):
        (span,) = traces[number]
        assert (span.name, int(span.parent, 16)) == ("POST /predict", number)
        assert span.error == (number == undrawn_failed)
    assert traces[undrawn_failed][0].attributes["error.type"] == "500"
    assert traces[undrawn_slow][0].seconds >= 1


# --- an outage --------------------------------------------------------------------------------------------------------


def metric(service: ServiceProcess, name: str) -> float:
    """One value of a scrape."""
    text = service.call("/metrics")[2].decode()
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(value)


def lost(service: ServiceProcess, reason: str) -> float:
    """Spans that the service has counted as lost."""
    return metric(service, f'calsvc_spans_dropped_total{{reason="{reason}"}}')


def failures(report: dict[str, Any]) -> int:
    """Requests of the simulator that did not go well, whether it sent them again or not."""
    again = sum(report["prediction_retries"].values()) + sum(report["retries"].values())
    return int(sum(report["errors"].values()) + again + report["not_sent"])


def test_a_collector_that_hangs_dies_and_comes_back_costs_no_request(workshop: Workshop, tmp_path: Path):
    """Under load: nothing fails, memory stays, what is lost is counted, and after it spans arrive again."""
    with running_collector(tmp_path) as collector:
        environ = collector.senders | {"OTEL_BSP_MAX_QUEUE_SIZE": str(QUEUE), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "128"}
        everything = {"OTEL_TRACES_SAMPLER": "always_on"}
        with (
            service_process(tmp_path, workshop.environ() | environ | everything) as service,
            simulator(tmp_path, workshop, service.url, environ, *endless(RATE)) as process,
        ):
            collector.wait_for(
                "a span of each", lambda: {span.service for span in collector.spans()} >= {"calsvc", "streamsim"}
            )
            assert (lost(service, "overflow"), lost(service, "undelivered")) == (0, 0)
            before = metric(service, "process_resident_memory_bytes")

            collector.signal(signal.SIGSTOP)
            collector.wait_for("an overflow", lambda: lost(service, "overflow"))
            collector.signal(signal.SIGKILL)
            collector.wait_for("a lost batch", lambda: lost(service, "undelivered"))
            after = metric(service, "process_resident_memory_bytes")

            back = time.time_ns()
            collector.start()
            collector.wait_for("a later span", lambda: any(span.start > back for span in collector.spans()))
            losses = lost(service, "overflow"), lost(service, "undelivered")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0, (tmp_path / "simulator.log").read_text()
            report = json.loads((tmp_path / "report.json").read_text())
            assert service.stop() == 0
    assert report["acknowledged"] > QUEUE
    assert failures(report) == 0
    assert min(losses) > 0
    assert (after - before) / 2**20 < MEMORY_MIB


def endless(rate: int) -> list[str]:
    """A steady stream until somebody ends it, its truth a second behind."""
    return ["--rps", str(rate), "--on", "5", "--off", "0", "--feedback-delay", "1"]

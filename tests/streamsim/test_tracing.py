"""The simulator's own spans: of which requests, what they say, and what becomes of them without a collector."""

import os
import socket
import sys
import time
from pathlib import Path
from subprocess import STDOUT

import anyio
import pytest
from anyio.abc import SocketStream
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode

from observability import signals
from observability.requests import SLOW
from observability.tracing import Tracing
from streamsim.answers import Answer, Cause, Identity, is_traced
from streamsim.client import Call, open_client
from streamsim.errors import SettingError
from streamsim.telemetry import spans
from streamsim.tracing import REFUSALS, CallSpans
from tests.service_process import ROOT, free_port
from tests.streamsim.fakes import CountingService, http_answer, make_rows, raw_server, read_request

PATIENCE = 60.0
"""Seconds that anything may take here before it counts as hanging."""
SERVICE = "http://user:secret@127.0.0.1:8000/predict"
UNTRACED = Identity(1, 2, traced=False)
QUICK = int(SLOW * 1e9) // 2
TRACED_ID = next(str(number) for number in range(100) if is_traced(str(number)))


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What was exported."""
    return InMemorySpanExporter()


@pytest.fixture
def calls(exporter: InMemorySpanExporter) -> CallSpans:
    """Spans that are exported as soon as they have ended."""
    return CallSpans(Tracing(Resource({}), [SimpleSpanProcessor(exporter)], ALWAYS_ON))


def call(cause: Cause = Cause.OK, status: int = 200, identity: Identity = UNTRACED, lasted: int = 2 * QUICK) -> Call:
    """A slow request for a prediction."""
    answer = Answer(cause, status)
    return Call(SERVICE, "/predict", identity, answer, resent=False, began=10**18, ended=10**18 + lasted, linked=(5, 6))


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span that was exported."""
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.anyio
async def test_the_span_is_what_the_service_is_told_of(
    service: CountingService, calls: CallSpans, exporter: InMemorySpanExporter
):
    """One for each traced record, with the ids of its `traceparent`; it lasts as long as the request."""
    rows = make_rows(60)
    before = time.time_ns()
    async with open_client(service.url, 5, calls) as client:
        for number in range(60):
            await client.predict(rows.record(number))
    after = time.time_ns()
    told = {f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}" for span in exporter.get_finished_spans()}
    asked = {sent[:-3] for sent in service.traceparents if int(sent[-1]) & 1}
    assert len(asked) == sum(is_traced(str(number)) for number in range(1, 61)) > 0
    assert asked <= told <= {sent[:-3] for sent in service.traceparents}  # a slow one may be among them
    assert len(service.traceparents) == 60
    for span in exporter.get_finished_spans():
        assert before <= (span.start_time or 0) <= (span.end_time or 0) <= after


@pytest.mark.anyio
async def test_a_span_says_what_the_conventions_ask_for(
    service: CountingService, calls: CallSpans, exporter: InMemorySpanExporter
):
    """Of an HTTP client; an address holds no password; a feedback's span links to that of the prediction."""
    reference = Identity(5, 6, traced=True).reference
    async with open_client(service.url.replace("://", "://me:s3cret@"), 5, calls) as client:
        await client.feedback(TRACED_ID, 1.0, reference)
    span = only(exporter)
    assert (span.name, span.kind, span.parent) == ("POST /feedback", SpanKind.CLIENT, None)
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(5, 6)]
    attributes = dict(span.attributes or {})
    assert attributes["url.full"] == f"{service.url}/feedback"
    assert attributes["url.template"] == "/feedback"
    assert attributes.keys() <= {name.removeprefix("?") for name in signals.CALL.attributes}
    assert attributes.keys() >= {name for name in signals.CALL.attributes if not name.startswith("?")}
    assert "s3cret" not in span.to_json()


def test_a_span_that_is_made_afterwards_says_the_same(calls: CallSpans, exporter: InMemorySpanExporter):
    """It has the ids that the service was told."""
    calls.note(call())
    span = only(exporter)
    assert (span.name, span.kind, span.parent) == ("POST /predict", SpanKind.CLIENT, None)
    assert (span.context.trace_id, span.context.span_id, span.context.trace_flags.sampled) == (1, 2, True)
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(5, 6)]
    assert (span.end_time or 0) - (span.start_time or 0) == 2 * QUICK
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "url.full": "http://127.0.0.1:8000/predict",
        "url.template": "/predict",
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize(
    ("cause", "status", "error"),
    [
        (Cause.HTTP_4XX, 404, "404"),
        (Cause.HTTP_5XX, 500, "500"),
        (Cause.HTTP_503, 503, "503"),
        (Cause.BAD_ANSWER, 200, "bad_answer"),
        (Cause.TIMEOUT, 0, "timeout"),
        (Cause.REFUSED, 0, "refused"),
    ],
)
def test_a_failure_says_how(calls: CallSpans, exporter: InMemorySpanExporter, cause: Cause, status: int, error: str):
    """A client's span is an error for whatever it did not want; without an answer there is no status."""
    calls.note(call(cause, status))
    attributes = dict(only(exporter).attributes or {})
    assert only(exporter).status.status_code is StatusCode.ERROR
    assert (attributes["error.type"], attributes.get("http.response.status_code", 0)) == (error, status)


def test_what_failed_or_was_slow_has_a_span_although_its_record_is_not_traced(
    calls: CallSpans, exporter: InMemorySpanExporter
):
    """As the service's own has; refusals, of which there are many at a time, have none."""
    calls.note(call(lasted=QUICK))
    for refusal in REFUSALS:
        calls.note(call(refusal, lasted=QUICK))
    assert exporter.get_finished_spans() == ()
    calls.note(call(Cause.HTTP_5XX, 500, lasted=QUICK))
    calls.note(call())
    assert len(exporter.get_finished_spans()) == 2


@pytest.mark.anyio
async def test_a_request_that_was_sent_twice_is_two_spans_of_one_trace(
    calls: CallSpans, exporter: InMemorySpanExporter
):
    """The second time on a fresh connection, because the service had closed the idle one."""
    connections = 0

    async def answer_once(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        await read_request(stream)
        await stream.send(http_answer(f'{{"id":{TRACED_ID},"status":"matched"}}'.encode()))
        if connections == 1:  # take the next one, and go
            await read_request(stream)

    async with raw_server(answer_once) as url, open_client(url, 5, calls) as client:
        await client.feedback(TRACED_ID, 1.0)
        await client.feedback(TRACED_ID, 1.0)
    first, lost, again = exporter.get_finished_spans()
    assert lost.status.status_code is StatusCode.ERROR
    assert first.context.trace_id != lost.context.trace_id == again.context.trace_id
    assert lost.context.span_id != again.context.span_id
    assert dict(again.attributes or {})["http.request.resend_count"] == 1


# --- where to ---------------------------------------------------------------------------------------------------------


def test_without_an_exporter_there_are_no_spans():
    """Warnings neither: nothing is done that a variable could change."""
    with spans({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) as calls:
        assert calls is None


def test_a_variable_that_has_no_effect_is_one_line(capsys: pytest.CaptureFixture[str]):
    """The sampler: which records are traced is decided by their ids."""
    environ = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "always_on", "OTEL_LOGS_EXPORTER": "otlp"}
    with spans(environ) as calls:
        assert calls is not None
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[1].partition("=")[0] for line in said] == ["OTEL_LOGS_EXPORTER", "OTEL_TRACES_SAMPLER"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret/pass@c:4318", "OTEL_EXPORTER_OTLP_ENDPOINT='http://...': "),
        ("OTEL_EXPORTER_OTLP_HEADERS", "token", "OTEL_EXPORTER_OTLP_HEADERS='***': expected NAME=VALUE"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "7", "OTEL_BSP_MAX_QUEUE_SIZE='7': expected"),
    ],
)
def test_a_value_that_cannot_be_used_is_said(key: str, value: str, said: str):
    """By its key, with what is accepted; headers and addresses may hold secrets."""
    with pytest.raises(SettingError) as error, spans({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", key: value}):
        pass
    assert str(error.value).startswith(said)


# --- the process ------------------------------------------------------------------------------------------------------


async def streamed(service: CountingService, csv: Path, environ: dict[str, str], *python: str) -> tuple[int, str]:
    """A run of half a second; return its exit code and what it printed."""
    arguments = ["stream", "--url", service.url, "--data", str(csv), "--journal", str(csv.parent / "owed.db")]
    arguments += ["--rps", "100", "--on", "0.5", "--off", "0", "--cycles", "1", "--feedback-delay", "0"]
    command = [sys.executable, *python, "-m", "streamsim", *arguments]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with anyio.fail_after(PATIENCE):
        process = await anyio.run_process(command, cwd=ROOT, env=ours | environ, stderr=STDOUT, check=False)
    return process.returncode, process.stdout.decode()


@pytest.mark.anyio
async def test_without_a_collector_nothing_is_loaded_for_one(service: CountingService, csv: Path):
    """Neither OpenTelemetry nor an HTTP client beside the one there is."""
    code, said = await streamed(service, csv, {"OTEL_EXPORTER_PROMETHEUS_PORT": "0"}, "-X", "importtime")
    assert code == 0
    assert "streamsim.client" in said
    assert [name for name in ("opentelemetry", "httpx2", "prometheus_client") if name in said] == []


@pytest.mark.slow
@pytest.mark.anyio
async def test_metrics_load_no_more_than_they_need(service: CountingService, csv: Path):
    """A server and Prometheus's client: nothing that sends or makes spans."""
    code, said = await streamed(service, csv, {"OTEL_EXPORTER_PROMETHEUS_PORT": str(free_port())}, "-X", "importtime")
    assert code == 0
    assert "prometheus_client" in said
    assert [name for name in ("opentelemetry.sdk", "httpx2") if name in said] == []


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_collector_that_is_not_there_costs_nothing(service: CountingService, csv: Path):
    """Every record is sent, and the run ends well, and soon."""
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.1"}
    code, said = await streamed(service, csv, nowhere)
    assert (code, len(service.bodies), service.statuses["matched"]) == (0, 50, 50), said


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_collector_that_says_nothing_is_not_waited_for(service: CountingService, csv: Path):
    """It takes connections and never answers: the run still ends in bounded time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        code, said = await streamed(service, csv, environ | {"NO_PROXY": "127.0.0.1", "OTEL_BSP_SCHEDULE_DELAY": "50"})
    assert (code, len(service.bodies)) == (0, 50), said


@pytest.mark.anyio
async def test_a_wrong_address_stops_the_run_with_one_line(service: CountingService, csv: Path):
    """Before anything is sent."""
    code, said = await streamed(service, csv, {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"})
    assert (code, service.bodies) == (1, [])
    assert "OTEL_EXPORTER_OTLP_ENDPOINT='***': expected" in said
    assert "Traceback" not in said

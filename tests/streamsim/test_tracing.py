"""The simulator's own spans: of which requests, what they say, and what becomes of them without a collector."""

import os
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import STDOUT
from typing import Any

import anyio
import pytest
from aiohttp import web
from anyio.abc import SocketStream
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, StatusCode

from observability import signals
from observability.tracing import SLOW, Tracing
from streamsim.answers import TRACED, Answer, Cause, Identity, is_traced
from streamsim.calls import ContextOnly
from streamsim.client import open_client
from streamsim.errors import SettingError
from streamsim.telemetry import spans
from streamsim.tracing import CallSpans
from tests.local_collector import LocalCollector
from tests.service_process import ROOT, free_port
from tests.serving import serving
from tests.streamsim.fakes import CountingService, http_answer, make_rows, raw_server, read_request

PATIENCE = 60.0
"""Seconds that anything may take here before it counts as hanging."""
TRACED_ID, UNTRACED_ID = (
    next(str(number) for number in range(100) if is_traced(str(number)) is traced) for traced in (True, False)
)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What was exported."""
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> CallSpans:
    """Spans that are exported as soon as they have ended."""
    return CallSpans(Tracing(Resource({}), [SimpleSpanProcessor(exporter)], ALWAYS_ON), TRACED)


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span that was exported."""
    (span,) = exporter.get_finished_spans()
    return span


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes, which have to be those of the declaration."""
    said = dict(span.attributes or {})
    always = {name for name in signals.CALL.attributes if not name.startswith("?")}
    assert always <= said.keys() <= {name.removeprefix("?") for name in signals.CALL.attributes}
    return said


def ids(span: ReadableSpan) -> str:
    """As in a `traceparent`."""
    return f"{span.context.trace_id:032x}-{span.context.span_id:016x}"


async def answered_with(content: bytes, record_id: str, tracing: CallSpans, patience: float = 5) -> Answer:
    """Ask a service that sends these bytes and closes, or that says nothing where there are none."""

    async def handle(stream: SocketStream) -> None:
        await read_request(stream)
        if not content:
            await anyio.sleep_forever()
        await stream.send(content)

    async with raw_server(handle) as url, open_client(url, patience, tracing) as client:
        return await client.feedback(record_id, 1.0)


@pytest.mark.anyio
async def test_the_span_is_what_the_service_is_told_of(
    service: CountingService, tracing: CallSpans, exporter: InMemorySpanExporter
):
    """One for each sampled record, with the ids of its `traceparent`; it lasts as long as the request."""
    rows = make_rows(60)
    before = time.time_ns()
    async with open_client(service.url, 5, tracing) as client:
        for number in range(60):
            await client.predict(rows.record(number))
    after = time.time_ns()
    told = {ids(span) for span in exporter.get_finished_spans()}
    asked = {sent[3:-3] for sent in service.traceparents if int(sent[-1]) & 1}
    assert len(asked) == sum(is_traced(str(number)) for number in range(1, 61)) > 0
    assert asked <= told <= {sent[3:-3] for sent in service.traceparents}  # a slow one may be among them
    assert len(service.traceparents) == 60
    for span in exporter.get_finished_spans():
        assert before <= (span.start_time or 0) <= (span.end_time or 0) <= after


@pytest.mark.anyio
async def test_where_an_answer_is_found_is_its_span(
    service: CountingService, tracing: CallSpans, exporter: InMemorySpanExporter
):
    """For exemplars, and for the journal, which keeps it for the label's link."""
    async with open_client(service.url, 5, tracing) as client:
        answer = await client.feedback(TRACED_ID, 1.0)
    assert answer.trace is not None
    assert answer.trace.reference == ids(only(exporter)).replace("-", "")


@pytest.mark.anyio
async def test_a_span_says_what_the_conventions_ask_for(
    service: CountingService, tracing: CallSpans, exporter: InMemorySpanExporter
):
    """Of an HTTP client; an address holds no password; a feedback's span links to that of the prediction."""
    reference = Identity(5, 6, traced=True).reference
    async with open_client(service.url.replace("://", "://me:s3cret@") + "/?key=s3cret", 5, tracing) as client:
        await client.feedback(TRACED_ID, 1.0, reference)
    span = only(exporter)
    assert (span.kind, span.parent) == (SpanKind.CLIENT, None)
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(5, 6)]
    assert "s3cret" not in span.to_json()


@pytest.mark.anyio
async def test_a_span_that_is_made_afterwards_says_the_same(
    service: CountingService, tracing: CallSpans, exporter: InMemorySpanExporter
):
    """With the ids that the service was told."""

    async def slow(_path: str, _number: int) -> web.Response:
        await anyio.sleep(SLOW)
        return web.json_response({"id": int(UNTRACED_ID), "status": "matched"})

    service.gate = slow
    async with open_client(service.url.replace("://", "://me:s3cret@"), 5, tracing) as client:
        for record_id in (TRACED_ID, UNTRACED_ID):
            await client.feedback(record_id, 1.0)
    of_traced, afterwards = exporter.get_finished_spans()
    assert [ids(of_traced), ids(afterwards)] == [sent[3:-3] for sent in service.feedback_traceparents]
    assert [sent[-2:] for sent in service.feedback_traceparents] == ["03", "00"]
    for span in (of_traced, afterwards):
        assert (span.name, span.kind, span.parent) == ("POST /feedback", SpanKind.CLIENT, None)
        assert span.context.trace_flags.sampled
        assert span.status.status_code is StatusCode.UNSET
        assert (span.end_time or 0) - (span.start_time or 0) >= SLOW * 1e9
        assert attributes(span) == {
            "http.request.method": "POST",
            "server.address": "127.0.0.1",
            "server.port": int(service.url.rpartition(":")[2]),
            "url.full": f"{service.url}/feedback",
            "url.template": "/feedback",
            "http.response.status_code": 200,
        }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (http_answer(b"{}", "404 Not Found"), ("404", 404)),
        (http_answer(b"{}", "500 Oh"), ("500", 500)),
        (b"no HTTP\r\n\r\n", ("bad_answer", None)),
        (b"HTTP/1.1 200 OK\r\n", ("closed", None)),
        (b"", ("timeout", None)),
    ],
)
@pytest.mark.parametrize("record_id", [TRACED_ID, UNTRACED_ID])
@pytest.mark.anyio
async def test_a_failure_says_how(
    tracing: CallSpans, exporter: InMemorySpanExporter, record_id: str, content: bytes, said: tuple[str, int | None]
):
    """In the same words whether its record is sampled or not; without an answer there is no status."""
    error, status = said
    await answered_with(content, record_id, tracing, 0.3)
    span = only(exporter)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == error
    assert attributes(span).get("http.response.status_code") == status


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (http_answer(b"no JSON"), "bad_answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "closed"),
    ],
)
@pytest.mark.anyio
async def test_what_fails_behind_the_head_of_the_answer_is_a_span_below(
    tracing: CallSpans, exporter: InMemorySpanExporter, content: bytes, error: str
):
    """The instrumentation ends its own with the head."""
    await answered_with(content, TRACED_ID, tracing)
    own, below = exporter.get_finished_spans()
    assert own.status.status_code is StatusCode.UNSET
    assert below.parent is not None
    assert below.context.trace_id == own.context.trace_id
    assert below.parent.span_id == own.context.span_id != below.context.span_id
    assert below.status.status_code is StatusCode.ERROR
    assert attributes(below)["error.type"] == error


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.anyio
async def test_refusals_have_a_span_only_where_their_record_is_sampled(
    tracing: CallSpans, exporter: InMemorySpanExporter, traced: bool
):
    """There are many of them at a time."""
    record_id = TRACED_ID if traced else UNTRACED_ID
    await answered_with(http_answer(b"{}", "503 Busy"), record_id, tracing)
    async with open_client(f"http://127.0.0.1:{free_port()}", 5, tracing) as client:
        await client.feedback(record_id, 1.0)
    errors = [attributes(span)["error.type"] for span in exporter.get_finished_spans()]
    assert errors == (["503", "refused"] if traced else [])


@pytest.mark.anyio
async def test_what_is_quick_and_not_sampled_has_none(
    service: CountingService, exporter: InMemorySpanExporter, tracing: CallSpans, monkeypatch: pytest.MonkeyPatch
):
    """However slow this machine is."""
    monkeypatch.setattr("streamsim.tracing.SLOW", 60)
    service.predicted = {int(UNTRACED_ID): 1.0}
    async with open_client(service.url, 5, tracing) as client:
        assert (await client.feedback(UNTRACED_ID, 1.0)).cause is Cause.OK
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("record_id", [TRACED_ID, UNTRACED_ID])
@pytest.mark.anyio
async def test_a_request_that_was_sent_twice_is_two_spans_of_one_trace(
    tracing: CallSpans, exporter: InMemorySpanExporter, record_id: str, monkeypatch: pytest.MonkeyPatch
):
    """The second one on a fresh connection, because the service had closed the idle one; the answer is the second's."""
    monkeypatch.setattr("streamsim.tracing.SLOW", 0 if record_id == UNTRACED_ID else 60)
    connections = 0

    async def answer_once(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        await read_request(stream)
        await stream.send(http_answer(f'{{"id":{record_id},"status":"matched"}}'.encode()))
        if connections == 1:  # take the next one, and go
            await read_request(stream)

    async with raw_server(answer_once) as url, open_client(url, 5, tracing) as client:
        await client.feedback(record_id, 1.0)
        answer = await client.feedback(record_id, 1.0)
    first, lost, again = exporter.get_finished_spans()
    assert first.context.trace_id != lost.context.trace_id == again.context.trace_id
    assert lost.context.span_id != again.context.span_id
    assert answer.trace is None or answer.trace.reference == ids(again).replace("-", "")
    assert (attributes(lost)["error.type"], lost.status.status_code) == ("closed", StatusCode.ERROR)
    assert again.status.status_code is StatusCode.UNSET
    resends = [attributes(span).get("http.request.resend_count") for span in (first, lost, again)]
    assert resends == [None, None, 1]


@pytest.mark.anyio
async def test_a_run_that_is_interrupted_is_not_the_services_failure(
    tracing: CallSpans, exporter: InMemorySpanExporter
):
    """The span of a sampled record says that it was cancelled; one that was not sampled has none."""

    async def silent(stream: SocketStream) -> None:
        await read_request(stream)
        await anyio.sleep_forever()

    async with raw_server(silent) as url, open_client(url, 60, tracing) as client:
        with anyio.move_on_after(0.3):
            async with anyio.create_task_group() as group:
                for record_id in (TRACED_ID, UNTRACED_ID):
                    group.start_soon(client.feedback, record_id, 1.0)
    assert attributes(only(exporter))["error.type"] == "CancelledError"


# --- where to, and how many -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
        {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
    ],
)
def test_without_an_exporter_there_are_no_spans(environ: dict[str, str]):
    """The service is asked to sample the same records."""
    with spans(dict(environ)) as tracing:
        assert isinstance(tracing, ContextOnly)
        assert tracing.share == (0 if "OTEL_TRACES_SAMPLER" in environ else TRACED)


@pytest.mark.parametrize(
    ("sampler", "argument", "share"),
    [
        ("", "", TRACED),
        ("", "0.5", 0.5),
        ("traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "", TRACED),
        ("always_on", "", 1),
        ("Parentbased_Always_On", "", 1),
        ("always_off", "", 0),
    ],
)
@pytest.mark.anyio
async def test_the_samplers_variables_say_which_share_of_the_records_is_sampled(
    service: CountingService, sampler: str, argument: str, share: float
):
    """By their ids, so that a prediction and its label are both sampled or neither is."""
    with spans({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}) as tracing:
        async with open_client(service.url, 5, tracing) as client:
            for number in range(40):
                await client.feedback(str(number), 1.0)
    told = [sent[-2:] != "00" for sent in service.feedback_traceparents]
    assert told == [is_traced(str(number), share) for number in range(40)]
    assert sum(told) in {0: {0}, 1: {40}}.get(share, range(1, 40))


def test_a_variable_that_has_no_effect_is_one_line(capsys: pytest.CaptureFixture[str]):
    """With or without an exporter."""
    environ = {"OTEL_PYTHON_STARLETTE_EXCLUDED_URLS": "x", "OTEL_LOGS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}
    with spans({**environ, "OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS": "x", "OTEL_EXPORTER_PROMETHEUS_PORT": "9"}):
        pass
    said = capsys.readouterr().err.splitlines()
    assert {line.split()[1].partition("=")[0].rstrip(":") for line in said} == environ.keys()
    assert len(said) == 3


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


@pytest.mark.anyio
async def test_spans_arrive_where_the_variables_say(service: CountingService, csv: Path):
    """As the SDK reads them; the label's span links to the prediction's, which the journal has kept."""
    variables = {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_SERVICE_NAME": "load", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}
    with serving(LocalCollector()) as collector:
        variables |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "NO_PROXY": "127.0.0.1"}
        code, said = await streamed(service, csv, variables)
    assert code == 0, said
    resources = [each for export in collector.exports() for each in export.resource_spans]
    owners = {
        attribute.value.string_value
        for each in resources
        for attribute in each.resource.attributes
        if attribute.key == "service.name"
    }
    assert owners == {"load"}
    arrived = [span for each in resources for scope in each.scope_spans for span in scope.spans]
    predictions = {span.span_id for span in arrived if span.name == "POST /predict"}
    feedback = [span for span in arrived if span.name == "POST /feedback"]
    assert len(predictions) == len(feedback) == 50
    assert {link.span_id for span in feedback for link in span.links} == predictions


@pytest.mark.parametrize("exporter", ["none", "console"])
@pytest.mark.anyio
async def test_trace_context_is_sent_as_the_propagators_say(service: CountingService, csv: Path, exporter: str):
    """Of records that are sampled and of others, with and without spans of the simulator's own."""
    code, said = await streamed(service, csv, {"OTEL_PROPAGATORS": "b3", "OTEL_TRACES_EXPORTER": exporter})
    assert code == 0, said
    sent = [headers.get("b3", "") for headers in service.headers]
    assert [headers.get("traceparent") for headers in service.headers] == [None] * len(sent)
    sampled = sum(is_traced(str(row["id"])) for row in service.bodies)
    assert Counter(each[-1] for each in sent) == {"1": 2 * sampled, "0": 100 - 2 * sampled}
    assert sampled


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_collector_that_is_not_there_costs_nothing(service: CountingService, csv: Path):
    """Every record is sent, and the run ends well, and soon, and says that spans were lost."""
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.1"}
    code, said = await streamed(service, csv, nowhere)
    assert (code, len(service.bodies), service.statuses["matched"]) == (0, 50, 50), said
    assert "spans could not be delivered" in said


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

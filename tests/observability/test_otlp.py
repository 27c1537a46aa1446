"""OTLP as JSON: the content of the protobuf form, and what becomes of it between here and a collector."""

import json
import logging
import math
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from observability import otlp
from observability.otlp import OtlpJsonExporter, encode
from observability.sampling import Collector
from observability.telemetry import Telemetry
from observability.tracing import HttpRequest, RequestSpans

RESOURCE = Resource({"service.name": "calsvc", "answer": 42, "tags": ("a", "b"), "share": 0.5, "live": True})
SCOPE = InstrumentationScope("calsvc")
OWN = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, is_remote=False, trace_flags=TraceFlags(1))
REMOTE = SpanContext(0x0A, 0x0B, is_remote=True, trace_flags=TraceFlags(1))
REMOTENESS = 0x300
"""The bits of a span's flags that OpenTelemetry's own encoder fills; ours adds the caller's below them."""
PATIENCE = 10.0
"""Seconds that anything may take here before it counts as hanging."""
PREDICTED = HttpRequest("POST", "http", "/predict", "/predict", 200)


def span(**changes: Any) -> ReadableSpan:
    """A span with as little in it as there can be."""
    plain = {"context": OWN, "resource": RESOURCE, "instrumentation_scope": SCOPE, "start_time": 1, "end_time": 2}
    return ReadableSpan(**{"name": "POST /predict", **plain, **changes})


def as_protobuf_json(value: Any, key: str = "") -> Any:
    """OTLP's JSON writes ids in hexadecimal where protobuf's own has base64; else they are the same."""
    if isinstance(value, dict):
        return {name: as_protobuf_json(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [as_protobuf_json(each) for each in value]
    if key in {"traceId", "spanId", "parentSpanId"}:
        return b64encode(bytes.fromhex(value)).decode()
    return value


def ours(spans: Sequence[ReadableSpan]) -> bytes:
    """Our JSON as a protobuf message, spelled as OpenTelemetry's encoder spells it."""
    message = Parse(json.dumps(as_protobuf_json(json.loads(encode(spans)))), ExportTraceServiceRequest())
    for each in message.resource_spans[0].scope_spans[0].spans:
        each.flags &= REMOTENESS
        each.status.SetInParent()  # no status is the status "unset"
        for link in each.links:
            link.flags &= REMOTENESS
    return message.SerializeToString(deterministic=True)


def theirs(spans: Sequence[ReadableSpan]) -> bytes:
    """The message that opentelemetry-exporter-otlp-proto-http would send."""
    return encode_spans(spans).SerializeToString(deterministic=True)


# --- content ----------------------------------------------------------------------------------------------------------

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False) | st.just(math.nan)  # of all that are not a number, one
SCALARS = st.one_of(st.text(), st.booleans(), INT64, FLOATS, st.binary(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_leaves=6,
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1), VALUES, max_size=5)
NANOSECONDS = st.integers(0, 2**63 - 1)
STATES = st.sampled_from([None, TraceState(), TraceState([("congo", "t61rcWkgMzE"), ("rojo", "00f0")])])
CONTEXTS = st.builds(
    SpanContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.just(TraceFlags(1)), STATES
)
STATUSES = st.one_of(
    st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR)]),
    st.text().map(lambda text: Status(StatusCode.ERROR, text)),
)
SPANS = st.builds(
    span,
    name=st.text(),
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, st.text(), ATTRIBUTES, NANOSECONDS), max_size=2),
    links=st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=NANOSECONDS,
    end_time=NANOSECONDS,
)


@given(st.lists(SPANS, min_size=1, max_size=4))
def test_the_content_is_that_of_the_protobuf_form(spans: list[ReadableSpan]):
    """Names, ids, times, attributes of every type, events, links, status, parents and flags."""
    assert ours(spans) == theirs(spans)


def test_spans_of_an_sdk_have_the_same_content_too():
    """Made by a real tracer, with whatever it puts into them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("calsvc")
    with tracer.start_as_current_span(
        "outer", kind=SpanKind.SERVER, links=[Link(REMOTE, {"why": "feedback"})]
    ) as outer:
        outer.set_attribute("numbers", [1, 2, 3])
        outer.add_event("half way", {"share": 0.5})
        with pytest.raises(ZeroDivisionError), tracer.start_as_current_span("inner"):
            raise ZeroDivisionError
    provider.shutdown()
    spans = exporter.get_finished_spans()
    assert [each.name for each in spans] == ["inner", "outer"]
    assert ours(spans) == theirs(spans)


def test_our_own_spans_have_the_same_content_too():
    """A request's, with a caller and a link."""
    exporter = InMemorySpanExporter()
    spans = RequestSpans(SimpleSpanProcessor(exporter), RESOURCE, "calsvc")
    caller = [(b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), (b"tracestate", b"a=1")]
    for headers, status in (([], 200), (caller, 503), (caller, 404)):
        begun = spans.begin(headers)
        begun.linked = (1, 2)
        begun.end()
        spans.export(begun, PREDICTED._replace(status=status))
    assert ours(exporter.get_finished_spans()) == theirs(exporter.get_finished_spans())


def test_the_flags_say_that_a_span_was_sampled():
    """W3C's flags in the low byte, as OTLP wants them, beside whether the parent is another process's."""
    (sent,) = json.loads(encode([span(parent=REMOTE)]))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert sent["flags"] == 0x301


def values(**attributes: Any) -> list[Any]:
    """How attributes of a span are written."""
    (sent,) = json.loads(encode([span(attributes=attributes)]))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return [each["value"] for each in sent["attributes"]]


def test_equal_values_of_different_types_stay_different():
    """1, 1.0 and True are one key of a cache, and three values."""
    assert [values(a=value) for value in (1, True, 1.0, 1)] == [
        [{"intValue": "1"}],
        [{"boolValue": True}],
        [{"doubleValue": 1.0}],
        [{"intValue": "1"}],
    ]


@pytest.mark.parametrize(
    ("value", "written"), [(math.nan, "NaN"), (-math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]
)
def test_a_number_that_json_lacks_is_spelled_as_protobuf_does(value: float, written: str):
    """A bare NaN would be no JSON, and null no value."""
    assert values(a=value) == [{"doubleValue": written}]


# --- delivery ---------------------------------------------------------------------------------------------------------


class Posted(NamedTuple):
    """What reached the collector."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class LocalCollector(ThreadingHTTPServer):
    """Takes spans on loopback and answers what it is told to, then 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers: list[int] = []
        self.posted: list[Posted] = []

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class Answering(BaseHTTPRequestHandler):
    """One connection to the collector."""

    protocol_version = "HTTP/1.1"
    server: LocalCollector

    def do_POST(self) -> None:
        """Take a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append(Posted(self.path, dict(self.headers), body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[LocalCollector]:
    """A collector that listens."""
    with LocalCollector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repetitions that follow at once, and no proxy between here and loopback."""
    monkeypatch.setattr(otlp, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a person is told."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_batch_arrives_whole(collector: LocalCollector, caplog: pytest.LogCaptureFixture):
    """One POST of JSON to the collector's path, with the headers it asks for, and nothing is said."""
    exporter = OtlpJsonExporter(Collector(collector.url, {"authorization": "Bearer abc", "x-tenant": "kcal"}))
    assert exporter.export([span(), span()]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    (posted,) = collector.posted
    headers = {name.lower(): value for name, value in posted.headers.items()}
    assert posted.path == "/v1/traces"
    assert posted.body == encode([span(), span()])
    assert headers["content-type"] == "application/json"
    assert (headers["authorization"], headers["x-tenant"]) == ("Bearer abc", "kcal")
    assert (exporter.dropped, warnings(caplog)) == (0, [])


@pytest.mark.parametrize("status", sorted(otlp.RETRYABLE))
def test_a_collector_that_is_busy_is_asked_again(
    collector: LocalCollector, status: int, caplog: pytest.LogCaptureFixture
):
    """The same batch until it is taken; nothing is lost and nothing said."""
    collector.answers = [status, status]
    exporter = OtlpJsonExporter(Collector(collector.url, {}))
    assert exporter.export([span()]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert [posted.body for posted in collector.posted] == [encode([span()])] * 3
    assert (exporter.dropped, warnings(caplog)) == (0, [])


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 501])
def test_what_a_collector_refuses_is_not_sent_again(
    collector: LocalCollector, status: int, caplog: pytest.LogCaptureFixture
):
    """Dropped, counted, and said once however often it happens."""
    collector.answers = [status] * 3
    exporter = OtlpJsonExporter(Collector(collector.url, {}))
    assert [exporter.export([span(), span()]) for _ in range(3)] == [SpanExportResult.FAILURE] * 3
    exporter.shutdown()
    assert len(collector.posted) == 3
    assert exporter.dropped == 6
    assert warnings(caplog) == [f"spans are being dropped: {collector.url} answers {status}"]


def test_every_outage_is_told_once(collector: LocalCollector, caplog: pytest.LogCaptureFixture):
    """A batch that arrives ends an outage; the next one is told again."""
    collector.answers = [400, 400, 200, 400, 400, 200]
    exporter = OtlpJsonExporter(Collector(collector.url, {}))
    for _ in range(6):
        exporter.export([span()])
    exporter.shutdown()
    assert len(warnings(caplog)) == 2
    assert exporter.dropped == 4


def test_without_a_collector_spans_are_dropped_in_bounded_time(free_port: int, caplog: pytest.LogCaptureFixture):
    """The first batch is tried until its time is up, those behind it only once."""
    exporter = OtlpJsonExporter(Collector(f"http://127.0.0.1:{free_port}/v1/traces", {}, timeout=0.3))
    began = time.monotonic()
    assert exporter.export([span()]) is SpanExportResult.FAILURE
    first = time.monotonic() - began
    for _ in range(100):
        exporter.export([span()])
    assert first < PATIENCE / 2
    assert time.monotonic() - began < PATIENCE
    exporter.shutdown()
    assert exporter.dropped == 101
    assert [message.partition(": http")[0] for message in warnings(caplog)] == ["spans are being dropped"]


def test_a_collector_that_never_answers_is_given_up(caplog: pytest.LogCaptureFixture):
    """It takes the connection and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        exporter = OtlpJsonExporter(Collector(url, {}, timeout=0.3))
        began = time.monotonic()
        assert exporter.export([span()]) is SpanExportResult.FAILURE
        assert time.monotonic() - began < PATIENCE / 2
        exporter.shutdown()
    assert (exporter.dropped, len(warnings(caplog))) == (1, 1)


def test_a_collector_that_is_always_busy_is_given_up(collector: LocalCollector):
    """After the time of one batch, pauses included."""
    collector.answers = [503] * 1000
    exporter = OtlpJsonExporter(Collector(collector.url, {}, timeout=0.3))
    began = time.monotonic()
    assert exporter.export([span()]) is SpanExportResult.FAILURE
    assert time.monotonic() - began < PATIENCE / 2
    exporter.shutdown()
    assert 1 < len(collector.posted) < 20


def test_a_collector_that_breaks_the_connection_is_asked_again():
    """It hangs up on the first try and answers the second: nothing is lost."""

    def hang_up_then_answer() -> None:
        server.accept()[0].close()
        answer_once(server)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up_then_answer)
        thread.start()
        exporter = OtlpJsonExporter(Collector(f"http://127.0.0.1:{server.getsockname()[1]}/", {}))
        assert exporter.export([span()]) is SpanExportResult.SUCCESS
        thread.join(PATIENCE)
        exporter.shutdown()
    assert exporter.dropped == 0


def test_a_collector_that_comes_back_gets_what_comes_then(free_port: int, caplog: pytest.LogCaptureFixture):
    """The exporter of an outage is as good as new after it."""
    exporter = OtlpJsonExporter(Collector(f"http://127.0.0.1:{free_port}/v1/traces", {}, timeout=0.1))
    assert exporter.export([span()]) is SpanExportResult.FAILURE
    with socket.create_server(("127.0.0.1", free_port)) as server:
        answered = threading.Thread(target=answer_once, args=(server,))
        answered.start()
        assert exporter.export([span()]) is SpanExportResult.SUCCESS
        answered.join(PATIENCE)
    exporter.shutdown()
    assert (exporter.dropped, len(warnings(caplog))) == (1, 1)


def answer_once(server: socket.socket) -> None:
    """Take one request and answer 200."""
    connection, _ = server.accept()
    with connection:
        while not connection.recv(65536).endswith(b"]}"):
            pass
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def test_after_shutdown_nothing_is_sent(collector: LocalCollector):
    """A late batch is dropped and raises nothing; shutting down twice does no harm."""
    exporter = OtlpJsonExporter(Collector(collector.url, {}))
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export([span()]) is SpanExportResult.FAILURE
    assert (collector.posted, exporter.dropped) == ([], 1)


def test_telemetry_delivers_what_it_holds_when_it_leaves(collector: LocalCollector):
    """Settings to socket: a request's span is at the collector when `shutdown` returns."""
    telemetry = Telemetry({"service.name": "test"}, Collector(collector.url, {}))
    assert telemetry.request_spans is not None
    begun = telemetry.request_spans.begin([])
    begun.end()
    telemetry.request_spans.export(begun, PREDICTED)
    telemetry.shutdown()
    (posted,) = collector.posted
    (resource_spans,) = json.loads(posted.body)["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": "test"}} in resource_spans["resource"]["attributes"]
    (sent,) = resource_spans["scopeSpans"][0]["spans"]
    assert (sent["name"], sent["spanId"], sent["kind"]) == ("POST /predict", begun.ids["span_id"], 2)


def test_telemetry_leaves_without_a_collector(free_port: int):
    """Four batches wait and nobody takes them: the process is not held up for longer than one of them may take."""
    url = f"http://127.0.0.1:{free_port}/v1/traces"
    telemetry = Telemetry({"service.name": "test"}, Collector(url, {}, timeout=0.5))
    assert telemetry.request_spans is not None
    for _ in range(2000):
        begun = telemetry.request_spans.begin([])
        begun.end()
        telemetry.request_spans.export(begun, PREDICTED)
    began = time.monotonic()
    telemetry.shutdown()
    assert time.monotonic() - began < PATIENCE

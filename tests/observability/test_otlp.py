"""Spans on their way to a collector: what arrives, what is repeated, what is dropped and counted."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from observability import otlp
from observability.otlp import OtlpJsonExporter, seconds_of
from observability.otlp_json import encode
from observability.sampling import Collector
from observability.telemetry import Telemetry
from observability.tracing import HttpRequest
from tests.serving import serving

PATIENCE = 10.0
"""Seconds that anything may take here before it counts as hanging."""
OWN = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
PREDICTED = HttpRequest("POST", "http", "/predict", "/predict", 200)


def span() -> ReadableSpan:
    """A span with as little in it as there can be."""
    return ReadableSpan("POST /predict", OWN, resource=Resource({}), start_time=1, end_time=2)


class Posted(NamedTuple):
    """What reached the collector."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


class LocalCollector(ThreadingHTTPServer):
    """Takes spans on loopback and answers what it is told to, then 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers: list[int] = []
        self.body = b"{}"
        self.retry_after = ""
        """Of every answer that is not 200."""
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
        self.server.posted.append(Posted(self.path, dict(self.headers), body, time.monotonic()))
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.server.body)))
        if status != 200 and self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[LocalCollector]:
    """A collector that listens."""
    with serving(LocalCollector()) as server:
        yield server


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


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
def test_a_collector_that_names_a_time_is_left_alone_until_then(collector: LocalCollector, status: int):
    """A second, where the first repetition would come after a hundredth of one."""
    collector.answers, collector.retry_after = [status], "1"
    exporter = OtlpJsonExporter(Collector(collector.url, {}, timeout=PATIENCE))
    assert exporter.export([span()]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    first, second = collector.posted
    assert second.at - first.at >= 1


def test_a_collector_that_names_a_time_beyond_a_batch_s_own_is_not_asked_in_between(
    collector: LocalCollector, caplog: pytest.LogCaptureFixture
):
    """Neither for that batch nor for those behind it, all of which are dropped and counted."""
    collector.answers, collector.retry_after = [503] * 3, "3600"
    exporter = OtlpJsonExporter(Collector(collector.url, {}, timeout=1))
    for _ in range(3):
        assert exporter.export([span(), span()]) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert (len(collector.posted), exporter.dropped) == (1, 6)
    assert warnings(caplog) == [f"spans are being dropped: {collector.url} answers 503"]


def test_no_collector_can_ask_for_silence_for_good(collector: LocalCollector, monkeypatch: pytest.MonkeyPatch):
    """After the longest wait it is asked again, whatever it said."""
    monkeypatch.setattr(otlp, "LONGEST_WAIT", 0.01)
    collector.answers, collector.retry_after = [503], "999999999999"
    exporter = OtlpJsonExporter(Collector(collector.url, {}, timeout=PATIENCE))
    assert exporter.export([span()]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert len(collector.posted) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("", 0), ("0", 0), ("120", 120), ("-5", 0), ("1.5", 0), ("soon", 0), ("\u0663", 0)),
        *(("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2015 07:28:00", 0), ("Wed, 99 Oct 2015 07:28:00 GMT", 0)),
    ],
)
def test_a_time_is_seconds_or_a_date(text: str, seconds: float):
    """What is neither, or over, is no time to wait."""
    assert seconds_of(text) == seconds


def test_a_date_is_that_far_away():
    """In an hour, give or take what is rounded."""
    assert 3590 < seconds_of(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)) <= 3600


@pytest.mark.parametrize(
    ("body", "lost"),
    [
        *((b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}', 3),),
        *((b'{"partialSuccess":{"rejectedSpans":2,"errorMessage":"too old"}}', 2),),
        *((b'{"partialSuccess":{"rejectedSpans":"99","errorMessage":"too old"}}', 5),),
    ],
)
def test_spans_that_a_collector_rejects_are_counted(
    collector: LocalCollector, body: bytes, lost: int, caplog: pytest.LogCaptureFixture
):
    """It takes the batch, but not all of it: not sent again, said once with its reason, until all are taken again."""
    collector.body = body
    exporter = OtlpJsonExporter(Collector(collector.url, {}))
    for _ in range(2):
        assert exporter.export([span()] * 5) is SpanExportResult.FAILURE
    collector.body = b"{}"
    assert exporter.export([span()] * 5) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert (len(collector.posted), exporter.dropped) == (3, 2 * lost)
    assert warnings(caplog) == [f"spans are being dropped: {collector.url} rejects {lost} of 5: too old"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"OK", b"[]", b"\xff", b"null", b'{"partialSuccess":null}', b'{"partialSuccess":{}}', b'{"more":1}'),
        *(b'{"partialSuccess":{"rejectedSpans":"0","errorMessage":null}}', b'{"partialSuccess":{"rejectedSpans":-1}}'),
        b'{"partialSuccess":{"rejectedSpans":"many"}}',
    ],
)
def test_whatever_else_a_collector_says_it_has_taken_all(
    collector: LocalCollector, body: bytes, caplog: pytest.LogCaptureFixture
):
    """200 means that, and nothing in the answer can break the next batch."""
    collector.body = body
    exporter = OtlpJsonExporter(Collector(collector.url, {}))
    assert [exporter.export([span()]) for _ in range(2)] == [SpanExportResult.SUCCESS] * 2
    exporter.shutdown()
    assert (exporter.dropped, warnings(caplog)) == (0, [])


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"]
)
def test_a_collector_that_trickles_is_given_up(begin: bytes):
    """A byte at a time, of the head or of the body, each well within any patience with a single one."""
    over = threading.Event()

    def trickle() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(begin)
            while not over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle)
        thread.start()
        stop = threading.Timer(2 * PATIENCE, over.set)  # where it is not given up
        stop.start()
        exporter = OtlpJsonExporter(Collector(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, timeout=0.5))
        began = time.monotonic()
        assert exporter.export([span()]) is SpanExportResult.FAILURE
        assert time.monotonic() - began < PATIENCE
        stop.cancel()
        over.set()
        thread.join(PATIENCE)
        exporter.shutdown()
    assert exporter.dropped == 1


def test_of_an_endless_answer_only_the_beginning_is_read(collector: LocalCollector):
    """It has been taken: that is all there is to know."""
    collector.body = b" " * (10 * otlp.LONGEST_ANSWER)
    exporter = OtlpJsonExporter(Collector(collector.url, {}))
    assert exporter.export([span()]) is SpanExportResult.SUCCESS
    exporter.shutdown()


def test_a_password_is_not_in_the_log(collector: LocalCollector, caplog: pytest.LogCaptureFixture):
    """An address may hold one."""
    collector.answers = [400]
    address = collector.url.replace("http://", "http://user:secret@") + "?token=secret"
    exporter = OtlpJsonExporter(Collector(address, {}))
    exporter.export([span()])
    exporter.shutdown()
    assert warnings(caplog) == [f"spans are being dropped: {collector.url} answers 400"]


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

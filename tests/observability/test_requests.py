"""What requests leave behind: durations, spans, exemplars and log lines."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from observability.instruments import create_histogram
from observability.logs import JsonLines
from observability.requests import SLOW, Paths, RequestTelemetry
from observability.signals import REQUEST_DURATION
from observability.telemetry import Telemetry
from tests.clock import Clock

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = ({"traceparent": f"00-{TRACE}-{PARENT}-0{flag}"} for flag in (1, 0))
FEW = ParentBased(TraceIdRatioBased(1e-15))
"""Samples what its caller has sampled, and nothing else in a test's lifetime, but could."""
Lines = Callable[[], list[dict[str, Any]]]


class Watch:
    """An application that answers what its path says, after `takes` seconds, and what was recorded of it."""

    def __init__(self, sampler: Sampler, *, traced: bool = True) -> None:
        self.clock = Clock()
        self.exporter = InMemorySpanExporter()
        self.telemetry = Telemetry({}, [SimpleSpanProcessor(self.exporter)] if traced else [], sampler)
        self.takes = SLOW / 2
        self.seen: list[trace.SpanContext] = []
        self.baggage: list[object] = []
        paths = Paths(["/200", "/404", "/500", "/503", "/dies", "/dies-late", "/quiet", "/own-span"], ["/quiet"])
        duration = create_histogram(self.telemetry.registry, REQUEST_DURATION)
        self.app = RequestTelemetry(self.answer, self.telemetry.tracing, duration, paths, self.clock)
        self.client = TestClient(self.app, raise_server_exceptions=False)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """/200 is answered with 200, and so on; /dies is not, and /dies-late only in part."""
        self.clock.now += self.takes
        self.seen.append(trace.get_current_span().get_span_context())
        self.baggage.append(baggage.get_baggage("user"))
        path = Request(scope).url.path
        if path == "/own-span":
            with self.telemetry.tracer.start_as_current_span("own"):
                pass
        if path == "/dies":
            raise ZeroDivisionError
        await PlainTextResponse("", int(path[1:]) if path[1:].isdigit() else 200)(scope, receive, send)
        if path == "/dies-late":
            raise ZeroDivisionError

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that were exported."""
        return self.exporter.get_finished_spans()

    def samples(self) -> list[Any]:
        """The histogram, as it is scraped."""
        families = text_string_to_metric_families(generate_latest(self.telemetry.registry).decode())
        return [each for family in families if "duration" in family.name for each in family.samples]

    def counts(self) -> dict[tuple[str, ...], float]:
        """Requests by route, method, status and error."""
        names = ("http_route", "http_request_method", "http_response_status_code", "error_type")
        counts = [each for each in self.samples() if each.name.endswith("_count")]
        return {tuple(each.labels[name] for name in names): each.value for each in counts}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines about requests that were logged up to now."""
    format_line = JsonLines().format
    return lambda: [json.loads(format_line(record)) for record in caplog.records if record.name == "calsvc"]


# --- durations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ALWAYS_ON])
def test_every_request_is_timed(sampler: Sampler):
    """Sampled or not, under its route, method, status and error."""
    watch = Watch(sampler)
    for method, path in (("POST", "/200"), ("POST", "/200"), ("GET", "/404"), ("GET", "/503"), ("GET", "/dies")):
        watch.client.request(method, path)
    assert watch.counts() == {
        ("/200", "POST", "200", ""): 2,
        ("/404", "GET", "404", ""): 1,
        ("/503", "GET", "503", "503"): 1,
        ("/dies", "GET", "500", "ZeroDivisionError"): 1,
    }
    assert sum(each.value for each in watch.samples() if each.name.endswith("_sum")) == pytest.approx(5 * watch.takes)


def test_no_client_invents_a_label():
    """Paths that do not exist are one series, and so are methods."""
    watch = Watch(ALWAYS_OFF)
    for path in ("/no/such", "/200/", "/quiet/", "/?a=b"):
        watch.client.get(path)
    for method in ("BREW", "PROPFIND", "_OTHER"):
        watch.client.request(method, "/200")
    assert watch.counts() == {("", "GET", "200", ""): 4, ("/200", "_OTHER", "200", ""): 3}


def test_a_quiet_path_leaves_nothing(lines: Lines):
    """Neither a number, nor a span, nor a line."""
    watch = Watch(ALWAYS_ON)
    watch.client.get("/quiet", headers=SAMPLED)
    assert (watch.counts(), watch.spans, lines()) == ({}, (), [])


def test_requests_are_active_while_they_are_answered():
    """By method and scheme; afterwards there are none, however they ended."""
    watch = Watch(ALWAYS_OFF)
    watch.client.get("/200")
    watch.client.post("/dies")
    assert dict(watch.app.active) == {("GET", "http"): 0, ("POST", "http"): 0}


# --- which requests have a span ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "headers", "sampled"),
    [
        (ALWAYS_ON, {}, True),
        (ALWAYS_ON, UNSAMPLED, True),
        (ALWAYS_OFF, SAMPLED, False),
        (ParentBased(ALWAYS_ON), UNSAMPLED, False),
        (ParentBased(ALWAYS_OFF), SAMPLED, True),
        (ParentBased(ALWAYS_OFF), {}, False),
        (TraceIdRatioBased(1.0), UNSAMPLED, True),
    ],
)
def test_the_sampler_and_the_caller_decide(sampler: Sampler, headers: dict[str, str], sampled: bool):
    """As the SDK's own middleware would: the draw before it comes to the same."""
    watch = Watch(sampler)
    watch.client.get("/200", headers=headers)
    assert len(watch.spans) == sampled


def test_the_share_that_is_sampled_is_the_ratio():
    """Not its square, though both the draw and the SDK ask the sampler: both ask with the same trace id."""
    watch = Watch(ParentBased(TraceIdRatioBased(0.5)))
    for _ in range(400):
        watch.client.get("/200")
    assert 130 < len(watch.spans) < 270  # seven standard deviations
    assert len({span.context.trace_id for span in watch.spans if span.context}) == len(watch.spans)


@pytest.mark.parametrize("variable", ["OTEL_PYTHON_EXCLUDED_URLS", "OTEL_PYTHON_STARLETTE_EXCLUDED_URLS"])
@pytest.mark.parametrize("sampler", [ALWAYS_ON, FEW])
def test_an_excluded_url_has_no_span(monkeypatch: pytest.MonkeyPatch, variable: str, sampler: Sampler):
    """Neither when it is sampled, nor afterwards because it failed or was slow; its duration is counted."""
    monkeypatch.setenv(variable, "/no/such,testserver/[25]00$")
    watch = Watch(sampler)
    watch.takes = 2 * SLOW
    for path in ("/200?q=1", "/500", "/404"):
        watch.client.get(path)
    assert [span.name for span in watch.spans] == ["GET /404"]
    assert len(watch.counts()) == 3


def test_headers_that_were_asked_for_are_in_the_span(monkeypatch: pytest.MonkeyPatch):
    """Of the request and of the answer; a secret one is there without its value."""
    capture = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
    monkeypatch.setenv(f"{capture}SERVER_REQUEST", "x-team,authorization")
    monkeypatch.setenv(f"{capture}SERVER_RESPONSE", "content-.*")
    monkeypatch.setenv(f"{capture}SANITIZE_FIELDS", "auth.*")
    watch = Watch(ALWAYS_ON)
    watch.client.get("/200", headers={"X-Team": "a", "Authorization": "s3cret"})
    attributes = dict(watch.spans[0].attributes or {})
    assert attributes["http.request.header.x_team"] == ("a",)
    assert attributes["http.request.header.authorization"] == ("[REDACTED]",)
    assert attributes["http.response.header.content_length"] == ("0",)


def test_a_span_says_what_the_conventions_ask_for_and_no_query():
    """The stable names; the address of the server is without its port."""
    watch = Watch(ALWAYS_ON)
    watch.client.get("/200?token=secret")
    (span,) = watch.spans
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind, span.status.status_code) == ("GET /200", SpanKind.SERVER, StatusCode.UNSET)
    assert (
        attributes.items()
        >= {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.route": "/200",
            "server.address": "testserver",
            "url.path": "/200",
            "url.scheme": "http",
        }.items()
    )
    assert "secret" not in str(span.to_json())
    assert not attributes.keys() & {"http.method", "http.url", "http.target", "url.query"}


@pytest.mark.parametrize("path", ["/200", "/dies", "/dies-late"])
def test_a_span_ends_with_its_request(path: str):
    """Nothing is left current behind it."""
    watch = Watch(ALWAYS_ON)
    watch.client.get(path)
    assert len(watch.spans) == 1
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("sampled", [True, False])
def test_a_span_of_the_applications_own_is_a_child_or_is_not_made(sampled: bool):
    """In a request that is not sampled it begins no trace of its own."""
    watch = Watch(FEW)
    watch.client.get("/own-span", headers=SAMPLED if sampled else {})
    names = [span.name for span in watch.spans]
    assert names == (["own", "GET /own-span"] if sampled else [])
    if sampled:
        own, server = watch.spans
        assert (own.parent and own.parent.span_id) == (server.context and server.context.span_id)


@pytest.mark.parametrize("flag", [SAMPLED, UNSAMPLED, {}])
def test_the_callers_baggage_is_there(flag: dict[str, str]):
    """Whether the request is sampled or not."""
    watch = Watch(FEW)
    watch.client.get("/200", headers={**flag, "baggage": "user=7"})
    assert watch.baggage == ["7"]


# --- failed and slow requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/500", "/dies", "/dies-late", "/200"])
@pytest.mark.parametrize("headers", [UNSAMPLED, {}])
def test_what_failed_or_was_slow_has_a_span_though_it_was_not_sampled(path: str, headers: dict[str, str]):
    """Afterwards, with the right times, below its caller."""
    watch = Watch(FEW)
    watch.takes = 2 * SLOW if path == "/200" else SLOW / 2
    watch.client.get(path, headers=headers)
    (span,) = watch.spans
    assert span.context is not None
    assert span.end_time is not None
    assert span.start_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(watch.takes, rel=0.01)
    assert span.status.is_ok == (path == "/200")
    if headers:
        assert (span.context.trace_id, span.parent and span.parent.span_id) == (int(TRACE, 16), int(PARENT, 16))


@pytest.mark.parametrize("path", ["/200", "/404", "/503"])
def test_others_have_none(path: str):
    """A refusal is no failure: there may be thousands a second."""
    watch = Watch(FEW)
    watch.client.get(path)
    assert watch.spans == ()


def test_a_sampler_that_never_samples_turns_it_off_as_well(lines: Lines):
    """No span and no line of slow requests; a failure keeps its line, with the caller's trace."""
    watch = Watch(ParentBased(ALWAYS_OFF))
    watch.takes = 2 * SLOW
    watch.client.get("/200")
    watch.client.get("/dies", headers=UNSAMPLED)
    assert watch.spans == ()
    assert [(line["event"], line["trace_id"]) for line in lines()] == [("calsvc.request.failed", TRACE)]


# --- exemplars and lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "headers"), [("/200", SAMPLED), ("/500", {})])
def test_span_exemplar_and_line_name_the_same_span(path: str, headers: dict[str, str], lines: Lines):
    """Whoever finds the one finds the others."""
    watch = Watch(FEW)
    watch.client.get(path, headers=headers)
    (span,), (line,) = watch.spans, lines()
    exemplars = [each.exemplar.labels for each in watch.samples() if each.exemplar]
    assert span.context is not None
    ids = {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
    assert exemplars == [ids]
    assert {key: line[key] for key in ids} == ids


def test_a_line_tells_route_method_status_and_time_and_no_more(lines: Lines):
    """No body, no query, no header."""
    watch = Watch(ALWAYS_ON)
    watch.client.post("/200?token=secret", content=b"secret", headers={"X-Secret": "secret"})
    (line,) = lines()
    assert (line["event"], line["message"]) == ("calsvc.request.answered", "POST /200 200")
    assert line["duration_ms"] == pytest.approx(watch.takes * 1e3)
    assert "secret" not in json.dumps(line)


def test_a_failure_has_a_line_with_its_traceback_and_no_other_line_has_one(lines: Lines):
    """Where nothing is traced, too."""
    watch = Watch(FEW, traced=False)
    watch.client.get("/200", headers=SAMPLED)
    watch.client.get("/dies")
    answered, failed = lines()
    assert "exception" not in answered
    assert (failed["level"], failed["exception.type"]) == ("error", "ZeroDivisionError")

"""What a request leaves behind, and what it does not, seen from outside of the middleware."""

import json
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from observability.asgi import NOTED, Observed, Recorder, Watched
from observability.instruments import create_histogram
from observability.logs import JsonLines
from observability.sampling import SLOW, Sampling
from observability.signals import REQUEST_DURATION
from observability.tracing import RequestSpans, current_ids
from tests.clock import Clock

NOBODY = Sampling(ratio=0.0)
EVERYBODY = Sampling(ratio=1.0)
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Watch:
    """An application that answers what its path says, after `takes` seconds, and what was recorded of it."""

    def __init__(self, sampling: Sampling = EVERYBODY, *, traced: bool = True) -> None:
        self.clock = Clock()
        self.registry = CollectorRegistry()
        self.exporter = InMemorySpanExporter()
        spans = RequestSpans(SimpleSpanProcessor(self.exporter), Resource({}), "test")
        watched = Watched(
            duration=create_histogram(self.registry, REQUEST_DURATION),
            routes=["/200", "/404", "/500", "/503", "/dies", "/dies-late", "/quiet", "/quiet-dies"],
            quiet=["/quiet", "/quiet-dies"],
            sampling=sampling,
            spans=spans if traced else None,
            clock=self.clock,
        )
        self.recorder = Recorder(watched)
        self.takes = 0.25
        self.ids: list[dict[str, str]] = []
        self.client = TestClient(Observed(self.answer, self.recorder), raise_server_exceptions=False)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """/200 is answered with 200, and so on; /dies is not."""
        if scope["type"] == "lifespan":
            for moment in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{moment}.complete"})
            return
        self.clock.now += self.takes
        self.ids.append(current_ids())
        if scope["path"].endswith("dies"):
            raise ZeroDivisionError
        status = scope["path"][1:]
        response = PlainTextResponse("answer", int(status) if status.isdigit() else 200)
        await response(scope, receive, send)
        if scope["path"] == "/dies-late":
            raise ZeroDivisionError

    def durations(self) -> dict[tuple[str, str, str], tuple[float, float]]:
        """Count and sum of seconds, by route, method and status."""
        read: dict[tuple[str, str, str], dict[str, float]] = {}
        (family,) = parse_openmetrics(generate_openmetrics(self.registry).decode())
        for sample in family.samples:
            names = ("http_route", "http_request_method", "http_response_status_code")
            key = tuple(sample.labels[name] for name in names)
            read.setdefault(key, {})[sample.name.rpartition("_")[2]] = sample.value  # type: ignore[arg-type]
        return {key: (each["count"], each["sum"]) for key, each in read.items()}

    def exemplars(self) -> list[dict[str, str]]:
        """The exemplars of a scrape."""
        (family,) = parse_openmetrics(generate_openmetrics(self.registry).decode())
        return [sample.exemplar.labels for sample in family.samples if sample.exemplar]

    def span_ids(self) -> list[str]:
        """The spans that were exported."""
        return [f"{span.context.span_id:016x}" for span in self.exporter.get_finished_spans()]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Any]]:
    """The lines about requests that were logged up to now, as machines read them."""
    format_line = JsonLines().format
    return lambda: [json.loads(format_line(record)) for record in caplog.records if record.name == "calsvc"]


Told = Callable[[], list[Any]]

# --- durations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", [NOBODY, EVERYBODY])
def test_every_request_is_timed(sampling: Sampling):
    """Drawn or not, under its route, method and status."""
    watch = Watch(sampling)
    for method, path in (("POST", "/200"), ("POST", "/200"), ("GET", "/200"), ("GET", "/404"), ("GET", "/503")):
        watch.client.request(method, path)
    assert watch.durations() == {
        ("/200", "POST", "200"): (2, 0.5),
        ("/200", "GET", "200"): (1, 0.25),
        ("/404", "GET", "404"): (1, 0.25),
        ("/503", "GET", "503"): (1, 0.25),
    }


def test_a_path_that_does_not_exist_makes_up_no_label():
    """Whatever is asked for, it is one series."""
    watch = Watch(NOBODY)
    for number in range(20):
        watch.client.get(f"/no/such/{number}")
    watch.client.get("/200/")
    assert watch.durations() == {("", "GET", "200"): (21, 5.25)}


def test_a_method_that_does_not_exist_makes_up_no_label():
    """All of them are _OTHER, those of other protocols too."""
    watch = Watch(NOBODY)
    for method in ("BREW", "PROPFIND", "_OTHER"):
        watch.client.request(method, "/200")
    assert watch.durations() == {("/200", "_OTHER", "200"): (3, 0.75)}


def test_an_application_that_dies_counts_as_500():
    """That is what the server answers for it; one that had answered already keeps its status."""
    watch = Watch(NOBODY)
    assert watch.client.get("/dies").status_code == 500
    watch.client.get("/dies-late")
    assert watch.durations() == {("/dies", "GET", "500"): (1, 0.25), ("/dies-late", "GET", "200"): (1, 0.25)}


@pytest.mark.parametrize("path", ["/quiet", "/quiet-dies"])
def test_a_quiet_path_leaves_nothing(told: Told, path: str):
    """No duration, span, line or current span, even where it fails."""
    watch = Watch()
    watch.client.get(path, headers={"traceparent": CALLER})
    watch.recorder.tell()
    assert (watch.durations(), watch.span_ids(), told(), watch.ids) == ({}, [], [], [{}])


def test_what_is_no_request_is_passed_on(told: Told):
    """The lifespan of an application is none."""
    watch = Watch()
    with watch.client:
        watch.client.get("/200")
    watch.recorder.tell()
    assert len(told()) == 1


# --- spans, exemplars and lines ---------------------------------------------------------------------------------------


def test_a_request_that_was_not_drawn_is_only_timed(told: Told):
    """No span is current, and none is exported."""
    watch = Watch(NOBODY)
    watch.client.get("/200")
    watch.client.get("/404")
    watch.recorder.tell()
    assert (watch.ids, watch.span_ids(), told(), watch.exemplars()) == ([{}, {}], [], [], [])


def test_a_drawn_request_is_told_of_when_there_is_time(told: Told):
    """Not while others wait for their answers; and once."""
    watch = Watch()
    watch.client.get("/200")
    assert (told(), watch.span_ids()) == ([], [])
    watch.recorder.tell()
    assert (len(told()), len(watch.span_ids())) == (1, 1)
    watch.recorder.tell()
    assert (len(told()), len(watch.span_ids())) == (1, 1)


def test_span_line_exemplar_and_application_name_the_same_span(told: Told):
    """From a dashboard to a trace to its lines."""
    watch = Watch()
    watch.client.get("/200", headers={"traceparent": CALLER})
    watch.recorder.tell()
    (ids,) = watch.ids
    (line,) = told()
    assert ids["trace_id"] == CALLER[3:35]
    assert watch.exemplars() == [ids]
    assert {name: line[name] for name in ids} == ids
    assert watch.span_ids() == [ids["span_id"]]


@pytest.mark.parametrize("path", ["/200", "/dies"])
def test_the_span_ends_with_its_request(path: str):
    """It is current while the request is answered, and not any more afterwards, whatever the end."""
    watch = Watch()
    scope = {"type": "http", "method": "GET", "scheme": "http", "path": path, "headers": []}

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        assert message["type"].startswith("http.response")

    async def ask() -> dict[str, str]:
        await Observed(watch.answer, watch.recorder)(scope, receive, send)
        return current_ids()

    afterwards = anyio.run(ask)
    watch.recorder.tell()
    (span,) = watch.exporter.get_finished_spans()
    ids = {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
    assert watch.ids == [ids]
    assert afterwards == {}
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time


def test_many_are_told_of_at_once(told: Told):
    """The last of them does not wait for the housekeeping; the next one does."""
    watch = Watch()
    for _ in range(NOTED - 1):
        watch.client.get("/200")
    assert told() == []
    watch.client.get("/200")
    assert (len(told()), len(watch.span_ids())) == (NOTED, NOTED)
    watch.client.get("/200")
    assert len(told()) == NOTED


@pytest.mark.parametrize("path", ["/500", "/dies"])
def test_a_failure_is_told_of_at_once(told: Told, path: str):
    """And with it what came before, in order."""
    watch = Watch()
    watch.client.get("/200")
    watch.client.get(path)
    assert [line["http.route"] for line in told()] == ["/200", path]
    assert watch.span_ids() == [ids["span_id"] for ids in watch.ids]


@pytest.mark.parametrize("path", ["/500", "/dies", "/200"])
def test_what_failed_or_was_slow_has_a_span_although_it_was_not_drawn(told: Told, path: str):
    """Made when it has ended: as long as the request was, below its caller's span, named by line and exemplar."""
    watch = Watch()
    watch.client.get(path, headers={"traceparent": CALLER[:-1] + "0"})
    watch.recorder.tell()
    (span,), (line,) = watch.exporter.get_finished_spans(), told()
    ids = {"trace_id": CALLER[3:35], "span_id": watch.span_ids()[0]}
    assert {name: line[name] for name in ids} == ids
    assert watch.exemplars() == [ids]
    assert span.parent is not None
    assert span.start_time is not None
    assert span.end_time is not None
    assert f"{span.parent.span_id:016x}" == CALLER[36:52]
    assert span.end_time - span.start_time >= 250_000_000
    assert watch.ids == [{}]


def test_a_quick_answer_that_was_not_drawn_has_none(told: Told):
    """Neither has a refusal that is quick."""
    watch = Watch()
    watch.takes = SLOW / 2
    for path in ("/200", "/404", "/503"):
        watch.client.get(path, headers={"traceparent": CALLER[:-1] + "0"})
    watch.recorder.tell()
    assert (watch.span_ids(), told(), watch.exemplars()) == ([], [], [])


@pytest.mark.parametrize("path", ["/500", "/dies"])
@pytest.mark.parametrize("traced", [True, False])
def test_a_failure_is_told_of_even_where_nothing_is_traced(told: Told, path: str, traced: bool):
    """A line with the caller's trace id, and no span: a share of 0, or no collector, means that nobody wants one."""
    watch = Watch(NOBODY, traced=traced)
    watch.client.get(path)
    watch.client.get(path, headers={"traceparent": CALLER[:-1] + "0"})
    assert [line["http.response.status_code"] for line in told()] == [500, 500]
    assert [line.get("trace_id") for line in told()] == [None, CALLER[3:35]]
    assert not any("span_id" in line for line in told())
    assert watch.span_ids() == []


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_traceback_stands_in_the_line_of_its_request(told: Told, flags: str):
    """One line: what was asked, how it ended and why, with trace and span, drawn or not."""
    watch = Watch()
    watch.client.get("/dies", headers={"traceparent": CALLER[:-2] + flags})
    (line,) = told()
    assert line["level"] == "error"
    assert line["exception.stacktrace"].startswith("Traceback (most recent call last):")
    assert line["exception.stacktrace"].endswith("ZeroDivisionError")
    assert (line["http.route"], line["http.response.status_code"]) == ("/dies", 500)
    assert (line["trace_id"], line["span_id"]) == (CALLER[3:35], watch.span_ids()[0])


def test_other_lines_have_no_traceback(told: Told):
    """Not even that of an answer 500 that was meant."""
    watch = Watch()
    watch.client.get("/500")
    (line,) = told()
    assert (line["event"], "exception.stacktrace" in line) == ("calsvc.request.failed", False)


@pytest.mark.parametrize("flags", ["00", "01"])
def test_dying_behind_the_head_of_an_answer_is_a_fault(told: Told, flags: str):
    """The status is the one that was sent, but the span is an error that names what was raised; told at once."""
    watch = Watch()
    watch.takes = SLOW / 2
    watch.client.get("/dies-late", headers={"traceparent": CALLER[:-2] + flags})
    (span,), (line,) = watch.exporter.get_finished_spans(), told()
    attributes = dict(span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert (attributes["http.response.status_code"], attributes["error.type"]) == (200, "ZeroDivisionError")
    assert (line["level"], line["http.response.status_code"]) == ("error", 200)
    assert "ZeroDivisionError" in line["exception.stacktrace"]


def test_of_ten_requests_one_has_a_line_and_every_failure(told: Told):
    """Those that nobody has drawn leave none, unless they fail. Traced and logged are the same ones."""
    watch = Watch(Sampling(ratio=0.1))
    watch.takes = SLOW / 2
    for number in range(400):
        watch.client.get("/200" if number % 20 else "/500")
    watch.recorder.tell()
    lines = told()
    drawn = [ids["span_id"] for ids in watch.ids if ids]
    ordinary = [line for line in lines if line["event"] == "calsvc.request.answered"]
    failed = [line for line in lines if line["event"] == "calsvc.request.failed"]
    assert 0 < len(ordinary) < 200  # 38 of 380: less than none and more than half have a chance of 1e-17
    assert len(failed) == 20
    assert {line["level"] for line in failed} == {"error"}
    assert {line["span_id"] for line in ordinary} <= set(drawn) <= {line["span_id"] for line in lines}


def test_a_refusal_is_no_failure_to_be_told_of(told: Told):
    """503 is the answer to thousands when there is too much to do: drawn like any other."""
    undrawn = Watch(NOBODY)
    undrawn.client.get("/503")
    undrawn.recorder.tell()
    assert told() == []
    drawn = Watch()
    drawn.client.get("/503")
    assert told() == []
    drawn.recorder.tell()
    assert [line["http.response.status_code"] for line in told()] == [503]


def test_without_a_collector_there_are_lines_and_no_spans(told: Told):
    """A drawn request is logged all the same, without ids."""
    watch = Watch(traced=False)
    watch.client.get("/200")
    watch.recorder.tell()
    (line,) = told()
    assert "trace_id" not in line
    assert (watch.ids, watch.exemplars(), watch.span_ids()) == ([{}], [], [])


def test_a_line_tells_route_method_status_and_time_and_no_more(told: Told):
    """Nothing of body, query or headers, and the path only where it is known."""
    watch = Watch(traced=False)
    watch.client.post("/200?secret=query", content=b"secret body", headers={"authorization": "secret header"})
    watch.client.get("/secret/path")
    watch.recorder.tell()
    lines = told()
    assert "secret" not in json.dumps(lines)
    assert all(line.pop("timestamp") for line in lines)
    common = {"level": "info", "event": "calsvc.request.answered", "duration_ms": 250.0}
    common |= {"http.response.status_code": 200}
    assert lines == [
        common | {"message": "POST /200 200", "http.request.method": "POST", "http.route": "/200"},
        common | {"message": "GET  200", "http.request.method": "GET", "http.route": ""},
    ]


def test_a_span_has_the_path_and_nothing_of_body_or_headers():
    """A query may hold what nobody should read."""
    watch = Watch()
    watch.client.post("/200?secret=query", content=b"secret body", headers={"authorization": "secret header"})
    watch.recorder.tell()
    (span,) = watch.exporter.get_finished_spans()
    assert "secret" not in span.to_json()
    assert dict(span.attributes or {})["url.path"] == "/200"


def test_a_line_is_dated_when_its_request_ended(caplog: pytest.LogCaptureFixture):
    """Not when it is told of."""
    watch = Watch()
    before = time.time()
    watch.client.get("/200")
    after = time.time()
    watch.recorder.tell()
    (record,) = [record for record in caplog.records if record.name == "calsvc"]
    assert before <= record.created <= after

"""Spans, as an exporter of OpenTelemetry's gets them, alone and through the real application."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from starlette.testclient import TestClient

from calsvc.app import create_app
from calsvc.lifecycle import Lifecycle
from calsvc.loading import open_model_source
from calsvc.service import create_service
from calsvc.settings import Settings
from observability import signals, tracing
from observability.signals import SCORE
from observability.telemetry import SCOPE, Telemetry
from observability.tracing import HttpRequest, RequestSpan, RequestSpans, attributes_of, current_ids
from tests.clock import Clock
from tests.test_schema import workout

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN_ID = 0x00F067AA0BA902B7
CALLER = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
RESOURCE = Resource({"service.name": "test"})
PREDICTED = HttpRequest("POST", "http", "/predict", "/predict", 200)
JSON = {"Content-Type": "application/json"}

Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What has left the process."""
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> RequestSpans:
    """Spans that are exported as soon as they have ended."""
    return RequestSpans(SimpleSpanProcessor(exporter), RESOURCE, "scope")


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span that was exported."""
    (span,) = exporter.get_finished_spans()
    return span


def headers(**fields: str) -> Headers:
    """Headers as an ASGI server hands them over."""
    return [(name.encode(), value.encode()) for name, value in fields.items()]


def exported(spans: RequestSpans, exporter: InMemorySpanExporter, sent: Headers, request: HttpRequest) -> ReadableSpan:
    """What is exported of a request."""
    span = spans.begin(sent)
    span.end()
    spans.export(span, request)
    return only(exporter)


# --- one span ---------------------------------------------------------------------------------------------------------


def test_a_span_of_a_caller_is_its_child(spans: RequestSpans, exporter: InMemorySpanExporter):
    """Trace id and tracestate stay, the parent is the caller's span, and its own id is new."""
    span = exported(spans, exporter, headers(traceparent=CALLER, tracestate=STATE), PREDICTED)
    context, parent = span.context, span.parent
    assert parent is not None
    assert (context.trace_id, context.trace_flags.sampled, context.is_remote) == (TRACE_ID, True, False)
    assert (parent.trace_id, parent.span_id, parent.is_remote) == (TRACE_ID, SPAN_ID, True)
    assert context.trace_state.to_header() == parent.trace_state.to_header() == STATE
    assert context.is_valid
    assert context.span_id != SPAN_ID


@pytest.mark.parametrize("sent", [[], headers(traceparent="nonsense", tracestate=STATE), headers(tracestate=STATE)])
def test_a_span_without_a_caller_begins_a_trace(spans: RequestSpans, exporter: InMemorySpanExporter, sent: Headers):
    """No parent, no state of anybody's, and two such spans have nothing in common."""
    span = exported(spans, exporter, sent, PREDICTED)
    assert span.parent is None
    assert span.context.is_valid
    assert span.context.trace_flags.sampled
    assert not span.context.trace_state
    exporter.clear()
    other = exported(spans, exporter, sent, PREDICTED).context
    assert {span.context.trace_id, span.context.span_id}.isdisjoint({other.trace_id, other.span_id})


def test_a_span_says_what_it_is_of(spans: RequestSpans, exporter: InMemorySpanExporter):
    """Name, kind, resource and scope."""
    span = exported(spans, exporter, [], PREDICTED)
    assert (span.name, span.kind, span.resource) == ("POST /predict", SpanKind.SERVER, RESOURCE)
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "scope"
    assert (span.events, span.links) == ((), ())


REQUESTS: dict[str, tuple[HttpRequest, str, Mapping[str, Any]]] = {
    "answered": (
        PREDICTED,
        "POST /predict",
        {
            "http.request.method": "POST",
            "url.scheme": "http",
            "url.path": "/predict",
            "http.route": "/predict",
            "http.response.status_code": 200,
        },
    ),
    "no such path": (
        HttpRequest("GET", "https", "/no/such", "", 404),
        "GET",
        {
            "http.request.method": "GET",
            "url.scheme": "https",
            "url.path": "/no/such",
            "http.response.status_code": 404,
        },
    ),
    "the service's own fault": (
        HttpRequest("POST", "http", "/predict", "/predict", 500),
        "POST /predict",
        {
            "http.request.method": "POST",
            "url.scheme": "http",
            "url.path": "/predict",
            "http.route": "/predict",
            "http.response.status_code": 500,
            "error.type": "500",
        },
    ),
    "an answer that broke off": (
        HttpRequest("GET", "http", "/info", "/info", 200, "OSError"),
        "GET /info",
        {
            "http.request.method": "GET",
            "url.scheme": "http",
            "url.path": "/info",
            "http.route": "/info",
            "http.response.status_code": 200,
            "error.type": "OSError",
        },
    ),
    "an unknown method": (
        HttpRequest("BREW", "http", "/predict", "/predict", 405),
        "HTTP /predict",
        {
            "http.request.method": "_OTHER",
            "http.request.method_original": "BREW",
            "url.scheme": "http",
            "url.path": "/predict",
            "http.route": "/predict",
            "http.response.status_code": 405,
        },
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_attributes_are_those_of_the_semantic_conventions(
    spans: RequestSpans, exporter: InMemorySpanExporter, case: str
):
    """Every required attribute, the conditional ones where they apply, and no other."""
    request, name, attributes = REQUESTS[case]
    span = exported(spans, exporter, [], request)
    assert (span.name, dict(span.attributes or {})) == (name, attributes)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, StatusCode.UNSET),
        (400, StatusCode.UNSET),
        (422, StatusCode.UNSET),
        (499, StatusCode.UNSET),
        (500, StatusCode.ERROR),
        (503, StatusCode.ERROR),
    ],
)
def test_only_a_fault_of_the_services_own_is_an_error(
    spans: RequestSpans, exporter: InMemorySpanExporter, status: int, code: StatusCode
):
    """A server's span is no error for what its client did wrong."""
    assert exported(spans, exporter, [], PREDICTED._replace(status=status)).status.status_code is code


def test_attributes_that_spans_share_cannot_be_changed():
    """Spans of the same kind of request hold one and the same mapping."""
    assert attributes_of(PREDICTED) is attributes_of(HttpRequest(*PREDICTED))
    with pytest.raises(TypeError):
        attributes_of(PREDICTED)["http.route"] = "/elsewhere"  # type: ignore[index]


def test_a_span_lasts_as_long_as_its_request(spans: RequestSpans, exporter: InMemorySpanExporter):
    """It starts when it is begun and ends when it is ended, not when it is exported."""
    before = time.time_ns()
    span = spans.begin([])
    span.end()
    after = time.time_ns()
    spans.export(span, PREDICTED)
    exported_span = only(exporter)
    assert exported_span.start_time is not None
    assert exported_span.end_time is not None
    assert before <= exported_span.start_time <= exported_span.end_time <= after


def test_a_clock_that_is_set_back_makes_no_span_end_before_it_starts(monkeypatch: pytest.MonkeyPatch):
    """A backend would show a duration of 584 years."""
    span = RequestSpan(None)
    monkeypatch.setattr(tracing.time, "time_ns", lambda: span.started - 10**9)
    span.end()
    assert span.ended == span.started


def test_a_link_points_at_another_span(spans: RequestSpans, exporter: InMemorySpanExporter):
    """With both ids, as of a span elsewhere that was sampled."""
    span = spans.begin([])
    span.linked = (TRACE_ID, SPAN_ID)
    span.end()
    spans.export(span, PREDICTED)
    (link,) = only(exporter).links
    assert (link.context.trace_id, link.context.span_id) == (TRACE_ID, SPAN_ID)
    assert link.context.is_remote
    assert link.context.trace_flags.sampled


def test_the_processor_of_production_takes_them(exporter: InMemorySpanExporter):
    """In batches, in the order in which they ended; the rest at shutdown."""
    processor = BatchSpanProcessor(exporter, schedule_delay_millis=60_000, max_export_batch_size=2)
    spans = RequestSpans(processor, RESOURCE, "scope")
    for status in range(200, 205):
        span = spans.begin([])
        span.end()
        spans.export(span, PREDICTED._replace(status=status))
    processor.shutdown()
    seen = [dict(span.attributes or {})["http.response.status_code"] for span in exporter.get_finished_spans()]
    assert seen == [200, 201, 202, 203, 204]


# --- steps ------------------------------------------------------------------------------------------------------------


def with_a_step(spans: RequestSpans, work: Callable[[], object], *expected: type[Exception]) -> RequestSpan:
    """A request that took one step, and has been exported."""
    span = spans.begin(headers(traceparent=CALLER, tracestate=STATE))
    try:
        with span.step(SCORE, {"engine": "onnx"}, *expected):
            work()
    except ZeroDivisionError:
        pass
    span.end()
    spans.export(span, PREDICTED)
    return span


def test_a_step_is_a_child_of_its_request(spans: RequestSpans, exporter: InMemorySpanExporter):
    """In its trace, within its time, under the declared name; and it leaves first, for it has ended first."""
    with_a_step(spans, lambda: None)
    step, request = exporter.get_finished_spans()
    assert step.parent is not None
    assert (step.name, step.kind, request.name) == ("score", SpanKind.INTERNAL, "POST /predict")
    assert step.context.trace_id == request.context.trace_id == TRACE_ID
    assert step.parent.span_id == request.context.span_id
    assert not step.parent.is_remote
    assert step.context.trace_state.to_header() == STATE
    assert len({step.context.span_id, request.context.span_id, SPAN_ID}) == 3
    assert (dict(step.attributes or {}), step.status.status_code) == ({"engine": "onnx"}, StatusCode.UNSET)
    assert step.start_time is not None
    assert step.end_time is not None
    assert request.start_time is not None
    assert request.end_time is not None
    assert request.start_time <= step.start_time <= step.end_time <= request.end_time


def test_a_step_that_raises_is_an_error(spans: RequestSpans, exporter: InMemorySpanExporter):
    """Named after what was raised, which goes on its way."""
    with_a_step(spans, lambda: 1 / 0)
    step, request = exporter.get_finished_spans()
    assert dict(step.attributes or {}) == {"engine": "onnx", "error.type": "ZeroDivisionError"}
    assert (step.status.status_code, request.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)


def test_what_was_expected_is_no_error(spans: RequestSpans, exporter: InMemorySpanExporter):
    """An id that nobody knows is an outcome."""
    with_a_step(spans, lambda: 1 / 0, ArithmeticError)
    step, _ = exporter.get_finished_spans()
    assert (dict(step.attributes or {}), step.status.status_code) == ({"engine": "onnx"}, StatusCode.UNSET)


def test_a_span_of_the_past_began_when_its_request_did(spans: RequestSpans, exporter: InMemorySpanExporter):
    """Its end is now."""
    before = time.time_ns()
    span = spans.begin(headers(traceparent=CALLER), 10**9)
    span.end()
    spans.export(span, PREDICTED)
    past = only(exporter)
    assert past.start_time is not None
    assert past.end_time is not None
    assert before - 10**9 <= past.start_time
    assert past.end_time - past.start_time >= 10**9
    assert past.context.trace_id == TRACE_ID
    assert current_ids() == {}


# --- the current span -------------------------------------------------------------------------------------------------


def test_a_span_is_current_until_it_ends(spans: RequestSpans):
    """Its ids in the usual form; none before it and none after it."""
    assert current_ids() == {}
    span = spans.begin(headers(traceparent=CALLER))
    assert current_ids() == {"trace_id": format_trace_id(TRACE_ID), "span_id": format_span_id(span.span_id)}
    span.end()
    assert current_ids() == {}


def test_a_span_within_another_gives_way_to_it(spans: RequestSpans):
    """The outer one is current again when the inner one has ended."""
    outer = spans.begin([])
    inner = spans.begin([])
    assert current_ids() == inner.ids
    inner.end()
    assert current_ids() == outer.ids
    outer.end()
    assert current_ids() == {}


def test_requests_at_the_same_time_do_not_see_each_other(spans: RequestSpans):
    """Two tasks that take turns: each sees its own span throughout, their surroundings see none."""
    seen: list[tuple[RequestSpan, dict[str, str]]] = []

    async def answer(span_begun: anyio.Event, other_begun: anyio.Event) -> None:
        span = spans.begin([])
        span_begun.set()
        await other_begun.wait()
        seen.append((span, current_ids()))
        await anyio.lowlevel.checkpoint()
        seen.append((span, current_ids()))
        span.end()
        seen.append((span, current_ids()))

    async def both() -> None:
        first, second = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer, first, second)
            tasks.start_soon(answer, second, first)
            await anyio.wait_all_tasks_blocked()
            assert current_ids() == {}

    anyio.run(both)
    assert [ids for _, ids in seen if ids] == [span.ids for span, ids in seen if ids]
    assert len({span.span_id for span, _ in seen}) == 2
    assert [len(ids) for _, ids in seen].count(0) == 2


# --- through the application ------------------------------------------------------------------------------------------


def spans_of(bundle: Path, ask: Callable[[TestClient], object], **settings: Any) -> list[ReadableSpan]:
    """The spans of requests that a real application has exported when it has answered and gone."""
    return [span for span in all_spans_of(bundle, ask, **settings) if span.kind is SpanKind.SERVER]


def all_spans_of(bundle: Path, ask: Callable[[TestClient], object], **settings: Any) -> list[ReadableSpan]:
    """The same with the steps of the requests."""
    exporter = InMemorySpanExporter()
    telemetry = Telemetry({"service.name": "test"})
    telemetry.request_spans = RequestSpans(SimpleSpanProcessor(exporter), RESOURCE, SCOPE)
    lifecycle = Lifecycle()
    service = create_service(Settings(model=bundle, store="memory://", **settings), telemetry, lifecycle, Clock())
    app = create_app(service, open_model_source(service))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.portal is not None
        client.portal.call(lifecycle.wait_ready)
        ask(client)
    telemetry.shutdown()
    return list(exporter.get_finished_spans())


def predict(client: TestClient, **sent: str) -> Any:
    """POST /predict of the record 1."""
    return client.post("/predict", content=workout(id=1), headers=JSON | sent)


def test_a_feedbacks_span_links_to_the_predictions(bundle: Path):
    """From the truth to what was said, even in another trace; a prediction's span links to nothing."""

    def ask(client: TestClient) -> None:
        predict(client)
        client.post("/feedback", json={"id": 1, "Calories": 100.0})

    predicted, learned = spans_of(bundle, ask, sampler="always_on")
    assert (predicted.name, learned.name) == ("POST /predict", "POST /feedback")
    assert predicted.links == ()
    assert [link.context.span_id for link in learned.links] == [predicted.context.span_id]
    assert [link.context.trace_id for link in learned.links] == [predicted.context.trace_id]
    assert predicted.context.trace_id != learned.context.trace_id


def test_only_the_truth_that_is_charged_links_to_its_prediction(bundle: Path):
    """A duplicate, a conflict and an unknown id judge nothing, and link to nothing."""

    def ask(client: TestClient) -> None:
        predict(client)
        for record_id, kcal in ((1, 100.0), (1, 100.0), (1, 7.0), (2, 7.0)):
            client.post("/feedback", json={"id": record_id, "Calories": kcal})

    predicted, *learned = spans_of(bundle, ask, sampler="always_on")
    made = predicted.context.span_id
    assert [[link.context.span_id for link in span.links] for span in learned] == [[made], [], [], []]
    assert [span.status.status_code for span in learned] == [StatusCode.UNSET] * 4


def test_a_prediction_that_was_not_drawn_is_linked_to_by_nobody(bundle: Path):
    """There is no span to point at."""

    def ask(client: TestClient) -> None:
        predict(client)
        client.post("/feedback", json={"id": 1, "Calories": 100.0}, headers={"traceparent": CALLER})

    (learned,) = spans_of(bundle, ask, sampler="parentbased_always_off")
    assert (learned.name, learned.links) == ("POST /feedback", ())


def test_scoring_and_joining_are_steps(bundle: Path):
    """Below their requests: which model answered, and what became of each truth; none of it is an error."""

    def ask(client: TestClient) -> None:
        predict(client)
        for record_id, kcal in ((1, 100.0), (1, 100.0), (1, 7.0), (2, 7.0)):
            client.post("/feedback", json={"id": record_id, "Calories": kcal})

    told = all_spans_of(bundle, ask, sampler="always_on")
    steps, requests = told[::2], told[1::2]
    assert [step.name for step in steps] == ["score", *["join"] * 4]
    assert [step.parent.span_id for step in steps if step.parent] == [span.context.span_id for span in requests]
    scored, *joined = [dict(step.attributes or {}) for step in steps]
    assert (set(scored), scored["engine"]) == ({"model_version", "engine"}, "onnx")
    assert [each["outcome"] for each in joined] == ["matched", "duplicate", "conflict", "unknown"]
    assert {step.status.status_code for step in steps} == {StatusCode.UNSET}


def test_what_is_emitted_is_declared(bundle: Path):
    """Every span's kind and attributes are those of its declaration, and none is missing."""

    def ask(client: TestClient) -> None:
        predict(client)
        client.post("/feedback", json={"id": 1, "Calories": 100.0})
        client.request("BREW", "/no/such")

    declared = {SpanKind.SERVER: signals.REQUEST, "score": signals.SCORE, "join": signals.JOIN}
    told = all_spans_of(bundle, ask, sampler="always_on")
    assert len(told) == 5
    for span in told:
        attributes = declared[span.kind if span.kind is SpanKind.SERVER else span.name].attributes
        always = {name for name in attributes if not name.startswith("?")}
        assert always <= set(span.attributes or {}) <= {name.removeprefix("?") for name in attributes}


def test_a_caller_decides_for_the_service(bundle: Path):
    """Its sampled request has a span below its own, its other one has none."""

    def ask(client: TestClient) -> None:
        predict(client, traceparent=CALLER, tracestate=STATE)
        predict(client, traceparent=CALLER[:-1] + "0")

    (span,) = spans_of(bundle, ask, sampler="parentbased_always_on")
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (TRACE_ID, SPAN_ID)
    assert span.context.trace_state.to_header() == STATE


def test_every_kind_of_answer_has_its_span(bundle: Path):
    """Bad input, an unknown path, a wrong method and a route of Starlette's; probes and scrapes leave none."""

    def ask(client: TestClient) -> None:
        client.post("/predict", content=b"{", headers=JSON)
        for method, path in (("GET", "/no/such"), ("GET", "/predict"), ("GET", "/info"), ("BREW", "/predict")):
            client.request(method, path)
        for path in ("/healthz", "/livez", "/readyz", "/metrics"):
            client.get(path)

    told = [
        (span.name, dict(span.attributes or {})["http.response.status_code"])
        for span in spans_of(bundle, ask, sampler="always_on")
    ]
    assert told == [
        ("POST /predict", 400),
        ("GET", 404),
        ("GET /predict", 405),
        ("GET /info", 200),
        ("HTTP /predict", 405),
    ]


def test_a_problem_names_the_trace_of_its_span(bundle: Path):
    """What a user reports is found in the traces; without a span it is the caller's trace."""
    problems: list[Any] = []

    def ask(client: TestClient) -> None:
        problems.append(client.post("/predict", content=b"{", headers=JSON).json())
        problems.append(client.get("/no/such").json())

    spans = spans_of(bundle, ask, sampler="always_on")
    assert [problem["trace_id"] for problem in problems] == [format_trace_id(span.context.trace_id) for span in spans]

    def ask_untraced(client: TestClient) -> None:
        problems.append(client.get("/no/such", headers={"traceparent": CALLER[:-1] + "0"}).json())
        problems.append(client.get("/no/such").json())

    assert spans_of(bundle, ask_untraced, sampler="parentbased_always_off") == []
    assert [problem.get("trace_id") for problem in problems[2:]] == [format_trace_id(TRACE_ID), None]


def test_a_long_path_is_cut(bundle: Path):
    """Thousands of spans may wait for a collector; none holds more than the beginning of a path."""
    (span,) = spans_of(bundle, lambda client: client.get("/" + "x" * 60_000), sampler="always_on")
    assert len(str(dict(span.attributes or {})["url.path"])) == 256

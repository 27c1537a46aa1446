"""Whose work a sample shows: tags are on while a request is worked on, and never while it waits."""

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Receive, Scope, Send

from observability.asgi import Observed, Recorder, Watched
from observability.histogram import Histogram
from observability.profiles import Profiles
from observability.samples import WORTH_A_PROFILE
from observability.sampling import Sampling
from observability.tracing import HttpRequest, RequestSpans
from tests.clock import Clock

PREDICTED = HttpRequest("POST", "http", "/predict", "/predict", 200)


class Client:
    """Where the tags of the one thread can be seen."""

    def __init__(self) -> None:
        self.tags: list[tuple[str, str]] = []

    def add_thread_tag(self, key: str, value: str) -> None:
        """As pyroscope-io has it."""
        self.tags.append((key, value))

    def remove_thread_tag(self, key: str, value: str) -> None:
        """As pyroscope-io has it."""
        self.tags.remove((key, value))


def scope(path: str) -> Scope:
    """A request without headers."""
    return {"type": "http", "method": "POST", "scheme": "http", "path": path, "headers": []}


async def unused(*_: Any) -> Any:
    """Nobody reads a body or an answer here."""


def test_tags_are_off_while_a_request_waits():
    """The thread is others' meanwhile; whatever is done afterwards is the request's again, up to its end."""
    client = Client()
    seen: list[tuple[str, list[tuple[str, str]]]] = []

    async def app(*_: Any) -> None:
        seen.append(("begun", client.tags.copy()))
        await asyncio.sleep(0)
        seen.append(("resumed", client.tags.copy()))

    async def play() -> None:
        request = asyncio.ensure_future(
            Profiles(client).endpoints(app, ["/predict"])(scope("/predict"), unused, unused)
        )
        await asyncio.sleep(0)
        seen.append(("meanwhile", client.tags.copy()))
        await request
        seen.append(("over", client.tags.copy()))

    asyncio.run(play())
    own = [("endpoint", "/predict")]
    assert seen == [("begun", own), ("meanwhile", []), ("resumed", own), ("over", [])]


def test_a_cancelled_request_cleans_up_under_its_tags():
    """The cancellation arrives where the request waits, as without tags, and leaves none behind."""
    client = Client()
    seen: list[list[tuple[str, str]]] = []

    async def app(*_: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append(client.tags.copy())

    async def play() -> None:
        request = asyncio.ensure_future(
            Profiles(client).endpoints(app, ["/predict"])(scope("/predict"), unused, unused)
        )
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(play())
    assert (seen, client.tags) == ([[("endpoint", "/predict")]], [])


def test_an_error_is_the_applications_own():
    """It comes out as it is, and the tags are off."""
    client = Client()

    async def app(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(Profiles(client).endpoints(app, ["/predict"])(scope("/predict"), unused, unused))  # type: ignore[arg-type]
    assert client.tags == []


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What has left the process."""
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> RequestSpans:
    """Spans that are exported as soon as they have ended."""
    return RequestSpans(SimpleSpanProcessor(exporter), Resource({}), "test")


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_drawn_request_is_tagged_with_its_span(spans: RequestSpans, exporter: InMemorySpanExporter, ratio: float):
    """By the id that its span is exported under; one that was not drawn has none."""
    client = Client()
    seen: list[tuple[str, str]] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        seen.extend(client.tags)
        await send({"type": "http.response.start", "status": 200})

    duration = Histogram("seconds", "help", ["route", "method", "status"], [1.0])
    recorder = Recorder(Watched(duration, ["/predict"], [], Sampling(ratio=ratio), spans, Clock()))
    tagged = Profiles(client).endpoints(Observed(app, recorder), ["/predict"])
    asyncio.run(tagged(scope("/predict"), unused, unused))  # type: ignore[arg-type]
    recorder.tell()
    exported = [("span_id", f"{span.context.span_id:016x}") for span in exporter.get_finished_spans()]
    assert len(exported) == ratio
    assert seen == [("endpoint", "/predict"), *exported]
    assert client.tags == []


@pytest.mark.parametrize(
    ("profiled", "nanoseconds", "leads"),
    [(True, WORTH_A_PROFILE, True), (True, WORTH_A_PROFILE - 1, False), (False, WORTH_A_PROFILE, False)],
    ids=["long", "shorter than the time between two samples", "without a profiler"],
)
def test_a_span_leads_to_its_profile_where_there_can_be_one(
    spans: RequestSpans, exporter: InMemorySpanExporter, profiled: bool, nanoseconds: int, leads: bool
):
    """By Pyroscope's attribute, which Grafana shows the link for."""
    span = spans.begin([])
    span.profiled = profiled
    span.end()
    span.ended = span.started + nanoseconds
    spans.export(span, PREDICTED)
    (exported,) = exporter.get_finished_spans()
    assert exported.attributes is not None
    assert exported.attributes.get("pyroscope.profile.id") == (f"{span.span_id:016x}" if leads else None)

"""Spans on their way to an exporter: which are counted as lost, and how the way ends."""

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from observability.signals import SPANS_LOST
from observability.testing import listening
from observability.tracing import CountingProcessor, Tracing
from tests.service_process import PATIENCE

LIMITS_OF_LINKS = {"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"}


class Backend(SpanExporter):
    """Takes spans, refuses them, raises, or holds them until it is shut down."""

    def __init__(self, outcome: SpanExportResult | None = SpanExportResult.SUCCESS, *, holds: bool = False) -> None:
        self.names: list[str] = []
        self.outcome = outcome
        self.holds = holds
        self.busy, self.ended = threading.Event(), threading.Event()
        self.shutdowns = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter.export`; without an outcome it raises."""
        self.busy.set()
        if self.holds:
            self.ended.wait(PATIENCE)
            return SpanExportResult.FAILURE
        if self.outcome is None:
            raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")
        self.names += [span.name for span in spans]
        return self.outcome

    def shutdown(self) -> None:
        """See `SpanExporter.shutdown`."""
        self.shutdowns += 1
        self.ended.set()


def traced(processor: CountingProcessor, spans: int) -> Tracing:
    """Let so many spans end."""
    tracing = Tracing(Resource({}), [processor], ALWAYS_ON)
    tracer = tracing.provider.get_tracer("test")
    for number in range(spans):
        tracer.start_span(str(number)).end()
    return tracing


def test_spans_that_wait_are_exported_at_the_end():
    """In their order, and none counts as lost."""
    backend = Backend()
    tracing = traced(CountingProcessor(backend, room=2048), 3)
    tracing.shutdown()
    assert backend.names == ["0", "1", "2"]
    assert tracing.dropped() == {"undelivered": 0, "overflow": 0}


@pytest.mark.parametrize("outcome", [SpanExportResult.FAILURE, None])
def test_what_an_exporter_refuses_or_cannot_encode_is_undelivered(outcome: SpanExportResult | None):
    """Counted by the span, and told once an outage."""
    backend = Backend(outcome)
    with listening() as listener:
        processor = CountingProcessor(backend, room=2048)
        tracing = traced(processor, 2)
        processor.force_flush()
        traced(processor, 1).shutdown()
    assert tracing.dropped() == {"undelivered": 3, "overflow": 0}
    assert [told.attributes for told in listener.told if told.event is SPANS_LOST] == [{"spans": 2}]


def test_what_has_no_room_is_an_overflow(monkeypatch: pytest.MonkeyPatch):
    """While the exporter is busy, nobody waits for it."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    backend = Backend(holds=True)
    processor = CountingProcessor(backend, room=5, patience=0)
    traced(processor, 2)
    assert backend.busy.wait(PATIENCE)
    tracing = traced(processor, 7)
    assert tracing.dropped() == {"undelivered": 0, "overflow": 2}
    tracing.shutdown()


def test_an_exporter_that_hangs_is_given_up_at_the_end():
    """It is told to stop once, and what it held is undelivered."""
    backend = Backend(holds=True)
    tracing = traced(CountingProcessor(backend, room=2048, patience=0.05), 1)
    tracing.shutdown()
    assert backend.shutdowns == 1
    assert tracing.dropped()["undelivered"] == 1


@pytest.mark.parametrize(
    ("variable", "kept"),
    [
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", (1, 6, 2, 2, 2)),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", (2, 1, 2, 2, 2)),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", (2, 6, 1, 2, 2)),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", (2, 6, 2, 2, 1)),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", (2, 6, 2, 1, 2)),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", (2, 6, 2, 2, 2)),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", (1, 6, 2, 2, 1)),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", (2, 1, 2, 2, 2)),
    ],
)
def test_a_spans_limits_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, kept: tuple[int, ...]
):
    """Attributes, characters of one, events, links, and attributes of an event; each is 1 here where it is limited."""
    monkeypatch.setenv(variable, "1")
    span = Tracing(Resource({}), [], ALWAYS_ON).provider.get_tracer("test").start_span("limited")
    span.set_attributes({"a": "abcdef", "b": "abcdef"})
    for _ in range(2):
        span.add_event("event", {"a": 1, "b": 2})
        span.add_link(span.get_span_context(), {"a": 1, "b": 2})
    attributes, events, links = span.attributes, span.events, span.links
    found = (len(attributes), len(attributes["b"]), len(events), len(links), len(events[-1].attributes))
    assert found == kept
    assert len(links[-1].attributes) == (1 if variable in LIMITS_OF_LINKS else 2)

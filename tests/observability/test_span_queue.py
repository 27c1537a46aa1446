"""Spans that wait for their collector: as many as there is room for, and every one that is lost is counted."""

import threading
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from observability.otlp import OtlpJsonExporter, SpanQueue
from observability.sampling import Collector
from observability.telemetry import Telemetry
from tests.service_process import PATIENCE, free_port

ROOM, BATCH = 100, 10
SPAN = ReadableSpan("POST /predict", SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)))


class Stuck(OtlpJsonExporter):
    """Takes a batch and holds it until it is let go; delivers everything."""

    def __init__(self) -> None:
        super().__init__(Collector("http://127.0.0.1:9/v1/traces", {}))
        self.holding, self.let_go = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait, then be done."""
        self.taken += len(spans)
        self.holding.set()
        assert self.let_go.wait(PATIENCE)
        return SpanExportResult.SUCCESS


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of a hundred, sent in tens as soon as there are ten."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", str(ROOM))
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str(BATCH))


def test_what_there_is_no_room_for_is_counted(caplog: pytest.LogCaptureFixture):
    """Ten are on their way and a hundred wait: exactly the rest is lost, and the SDK's own queue never overflows."""
    exporter = Stuck()
    queue = SpanQueue(exporter)
    for _ in range(BATCH):
        queue.on_end(SPAN)
    assert exporter.holding.wait(PATIENCE)
    for _ in range(ROOM + 37):
        queue.on_end(SPAN)
    assert queue.dropped() == {"undelivered": 0, "overflow": 37}
    exporter.let_go.set()
    queue.shutdown()
    assert exporter.taken == BATCH + ROOM
    assert caplog.records == []


def test_when_there_is_room_again_nothing_more_is_lost():
    """An overflow is over when the collector is back."""
    exporter = Stuck()
    queue = SpanQueue(exporter)
    for _ in range(BATCH + ROOM + 50):
        queue.on_end(SPAN)
    lost = queue.dropped()["overflow"]
    assert 50 <= lost <= 50 + BATCH
    exporter.let_go.set()
    until = time.monotonic() + PATIENCE
    while exporter.taken < BATCH + ROOM + 50 - lost - BATCH and time.monotonic() < until:
        time.sleep(0.01)
    queue.on_end(SPAN)
    queue.shutdown()
    assert queue.dropped()["overflow"] == lost
    assert exporter.taken == BATCH + ROOM + 50 - lost + 1


def test_what_no_collector_takes_is_counted_apart(monkeypatch: pytest.MonkeyPatch):
    """Nobody listens: lost on the way, not for want of room."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    collector = Collector(f"http://127.0.0.1:{free_port()}/v1/traces", {}, timeout=0.1)
    provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    provider.add_span_processor(queue := SpanQueue(OtlpJsonExporter(collector)))
    for _ in range(3):
        provider.get_tracer("test").start_span("POST /predict").end()
    provider.shutdown()
    assert queue.dropped() == {"undelivered": 3, "overflow": 0}


def test_without_a_collector_none_are_lost():
    """No spans leave, so none can be lost on the way."""
    telemetry = Telemetry({"service.name": "test"})
    assert telemetry.dropped_spans() == {"undelivered": 0, "overflow": 0}
    telemetry.shutdown()

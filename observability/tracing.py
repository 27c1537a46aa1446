"""The process's TracerProvider, and the draw: whether a request is sampled is known before a span is made for it."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler
from opentelemetry.trace import SpanKind

from observability.events import tell
from observability.signals import SPANS_LOST

SCOPE: Final = "calsvc"
SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds after which spans that wait for a collector are given up when the process ends."""
SLOW: Final = 0.05
"""Seconds from which a request that was not sampled leaves a span and a log line when it has ended."""
_drawn: ContextVar[tuple[int, int]] = ContextVar("drawn ids", default=(0, 0))


class DrawnIds(RandomIdGenerator):
    """Gives a span the ids with which it was drawn: samplers decide by the trace id."""

    def generate_trace_id(self) -> int:
        """Return the drawn id where there is one, else a random one."""
        return _drawn.get()[0] or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the drawn id where there is one, else a random one."""
        return _drawn.get()[1] or super().generate_span_id()


class CountingExporter(SpanExporter):
    """Counts spans on their way to another exporter, and logs the first batch that it did not deliver."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.taken = 0
        """Spans that were handed to the exporter."""
        self.undelivered = 0
        self._exporter = exporter
        self._failing = False
        self._ended = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter.export`."""
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:  # it may raise, too: of what it cannot encode
            failed = result is not SpanExportResult.SUCCESS
            self.undelivered += len(spans) if failed else 0
            if failed and not self._failing:
                tell(SPANS_LOST, {"spans": len(spans)})
            self._failing = failed
        return result

    def shutdown(self) -> None:
        """See `SpanExporter.shutdown`; the second time does nothing."""
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()


class CountingProcessor(SpanProcessor):
    """A batch processor that counts the spans it has no room for; the SDK's own only logs them.

    Args:
        exporter: takes batches, in a thread of its own.
        room: spans that may wait, as the batch processor's own queue has room for.
        patience: seconds after which spans that wait are given up at the end.
    """

    def __init__(self, exporter: SpanExporter, room: int, patience: float = SHUTDOWN_TIMEOUT) -> None:
        self._exporter = CountingExporter(exporter)
        self._batches = BatchSpanProcessor(self._exporter)
        self.room = room
        self._patience = patience
        self._accepted = 0
        self.overflowed = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span where there is room."""
        if self._accepted - self._exporter.taken >= self.room:
            self.overflowed += 1
            return
        self._accepted += 1
        self._batches.on_end(span)

    @property
    def undelivered(self) -> int:
        """Spans that the exporter could not deliver."""
        return self._exporter.undelivered

    def shutdown(self) -> None:
        """Export what waits, for the patience and the export under way at most."""
        give_up = threading.Timer(self._patience, self._exporter.shutdown)
        give_up.daemon = True
        give_up.start()
        self._batches.shutdown()  # type: ignore[no-untyped-call]
        give_up.cancel()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """See `SpanProcessor.force_flush`."""
        return self._batches.force_flush(timeout_millis)


class Tracing:
    """Where spans are made and exported.

    Args:
        resource: of the process.
        processors: take the spans that have ended.
        sampler: decides which traces are recorded; None: as OTEL_TRACES_SAMPLER says.
    """

    def __init__(self, resource: Resource, processors: Sequence[SpanProcessor], sampler: Sampler | None = None) -> None:
        self.provider = TracerProvider(sampler, resource, shutdown_on_exit=False, id_generator=DrawnIds())
        self._unsampled = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=DrawnIds())
        self._processors = processors
        for each in processors:
            self.provider.add_span_processor(each)
            self._unsampled.add_span_processor(each)
        self._after = self._unsampled.get_tracer(SCOPE)
        self.exports = bool(processors)
        """Whether spans leave the process."""
        self.samples_any = self.is_sampled(None, 1)
        """False where the sampler records nothing that no caller has asked for: a ratio samples the lowest ids."""

    def new_trace_id(self) -> int:
        """Return a random trace id."""
        return self.provider.id_generator.generate_trace_id()

    def is_sampled(self, parent: Context | None, trace_id: int) -> bool:
        """Tell whether the sampler would record the server span of a trace."""
        decision = self.provider.sampler.should_sample(parent, trace_id, "", SpanKind.SERVER).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def record(self, ended: "Ended") -> trace.SpanContext:
        """Export the span of something that has ended and was not sampled; return its identity."""
        end = time.time_ns()
        start = end - int(ended.seconds * 1e9)
        with drawn(ended.trace_id, ended.span_id):
            span = self._after.start_span(
                ended.name, ended.parent or Context(), ended.kind, ended.attributes, start_time=start
            )
        if ended.linked is not None:
            span.add_link(linked_context(ended.linked))
        if "error.type" in ended.attributes:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end)
        return span.get_span_context()

    def dropped(self) -> Mapping[str, int]:
        """Return how many spans were lost, by reason."""
        counting = [each for each in self._processors if isinstance(each, CountingProcessor)]
        return {
            "undelivered": sum(each.undelivered for each in counting),
            "overflow": sum(each.overflowed for each in counting),
        }

    def shutdown(self) -> None:
        """Export what waits."""
        for each in self._processors:
            each.shutdown()


class Ended(NamedTuple):
    """What has ended, as its span will say it. `trace_id` counts where there is no parent."""

    name: str
    kind: SpanKind
    seconds: float
    attributes: Mapping[str, str | int]
    parent: Context | None
    trace_id: int
    span_id: int = 0
    """0: any."""
    linked: tuple[int, int] | None = None
    """Trace and span id of a span to link to."""


@contextmanager
def drawn(trace_id: int, span_id: int = 0) -> Iterator[None]:
    """Let a root span that begins in this context have a trace id, and, where one is given, the only span its id."""
    token = _drawn.set((trace_id, span_id))
    try:
        yield
    finally:
        _drawn.reset(token)


def linked_context(ids: tuple[int, int]) -> trace.SpanContext:
    """Return what a link to a span elsewhere is made of."""
    return trace.SpanContext(*ids, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))


def recording_span() -> trace.Span | None:
    """Return the current span where it is recorded."""
    span = trace.get_current_span()
    return span if span.is_recording() else None


def ids_of(context: trace.SpanContext) -> dict[str, str]:
    """Return a span's identity as exemplars and log lines name it."""
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}

"""Spans to a collector: OTLP over HTTP, in its JSON form.

The same content as the protobuf form of `opentelemetry-exporter-otlp-proto-http`, a sixth of its cost per span: that
one builds a message object for every attribute of every span.
"""

import math
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext

from observability.events import tell
from observability.sampling import Collector
from observability.signals import SPANS_LOST

RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""What OTLP lets a client repeat."""
FIRST_PAUSE: Final = 0.5
"""Seconds before the first repetition; doubled each time."""
SHORTEST: Final = 0.1
"""Seconds that a repetition gets at least."""
_NOT_FINITE: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}
_REPEATABLE: Final = frozenset({str, int})
"""Types of values that are equal only when they are the same: 1 == 1.0 == True."""
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200


class OtlpJsonExporter(SpanExporter):
    """Sends batches of spans; called by one thread, that of the batch processor."""

    def __init__(self, collector: Collector) -> None:
        headers = {**collector.headers, "Content-Type": "application/json"}
        self._client = httpx2.Client(headers=headers, timeout=collector.timeout)
        self._collector = collector
        self._failing = False
        self._leave_by = math.inf
        self.taken = 0
        """Spans that were given to be sent, delivered or not."""
        self.dropped = 0
        """Spans that no collector took."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; what cannot be delivered in time is dropped and counted, never kept."""
        self.taken += len(spans)
        cause = self._deliver(encode(spans))
        if cause is None:
            self._failing = False
            return SpanExportResult.SUCCESS
        self.dropped += len(spans)
        if not self._failing:  # once, not for every batch of an hour's outage
            tell(SPANS_LOST, {"url": bare_url(self._collector.url), "cause": cause})
        self._failing = True
        return SpanExportResult.FAILURE

    def hurry(self) -> None:
        """Give all batches that are still to come, together, no longer than one of them had."""
        self._leave_by = time.monotonic() + self._collector.timeout

    def shutdown(self) -> None:
        """Close the connection."""
        self._client.close()

    def _deliver(self, content: bytes) -> str | None:
        """Post until it is taken, refused or too late; return why it was not taken.

        While an outage lasts, once: the queue behind this batch would overflow, and the process could not leave.
        """
        give_up = min(time.monotonic() + self._collector.timeout, self._leave_by)
        pause = FIRST_PAUSE
        while not self._client.is_closed:
            try:
                left = max(SHORTEST, give_up - time.monotonic())
                answer = self._client.post(self._collector.url, content=content, timeout=left)
                if answer.is_success:
                    return None
                cause, again = f"answers {answer.status_code}", answer.status_code in RETRYABLE
            except httpx2.HTTPError as error:
                cause, again = f"cannot be reached: {error}", True
            if not again or self._failing or time.monotonic() + pause >= give_up:
                return cause
            time.sleep(pause)
            pause *= 2
        return "is not asked any more"


class SpanQueue(BatchSpanProcessor):
    """Spans that wait to be sent, in batches, by a thread of their own; what there is no room for is counted.

    The SDK's processor drops them as well, its oldest, and tells of it only in metrics of its own. Here what waits is
    what was handed over and has not been taken: the SDK's queue never overflows. Only one thread may end spans.
    Queue and batches are sized by the standard OTEL_BSP_* variables, which the SDK reads itself.
    """

    def __init__(self, exporter: OtlpJsonExporter) -> None:
        self._room: int = self._default_max_queue_size()  # type: ignore[no-untyped-call]
        super().__init__(exporter, max_queue_size=self._room)
        self._exporter = exporter
        self._handed_over = 0
        self._overflowed = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Let a span wait, unless there is no room."""
        if self._handed_over - self._exporter.taken >= self._room:
            self._overflowed += 1
            return
        self._handed_over += 1
        super().on_end(span)

    def shutdown(self) -> None:
        """Send what waits, for as long as a batch or two may take; what is then left is dropped."""
        self._exporter.hurry()
        super().shutdown()  # type: ignore[no-untyped-call]

    def dropped(self) -> dict[str, int]:
        """Return how many spans were lost, by reason."""
        return {"undelivered": self._exporter.dropped, "overflow": self._overflowed}


def bare_url(url: str) -> str:
    """Return an address without user, password and query: none of them belongs into a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Return an ExportTraceServiceRequest. All spans of a process share one resource and one scope."""
    first = spans[0]
    scope = first.instrumentation_scope
    scope_spans = {"scope": {"name": scope.name if scope else ""}, "spans": [_span(span) for span in spans]}
    resource = {"attributes": _attributes(first.resource.attributes)}
    return msgspec.json.encode({"resourceSpans": [{"resource": resource, "scopeSpans": [scope_spans]}]})


def _span(span: ReadableSpan) -> dict[str, Any]:
    own: SpanContext = span.context
    told: dict[str, Any] = {
        "traceId": f"{own.trace_id:032x}",
        "spanId": f"{own.span_id:016x}",
        "name": span.name,
        "kind": span.kind.value + 1,  # OTLP counts from 1, its 0 is "unspecified"
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _of_span(span.attributes),
        "flags": own.trace_flags | _remoteness(span.parent),
    }
    if own.trace_state:
        told["traceState"] = own.trace_state.to_header()
    if span.parent is not None:
        told["parentSpanId"] = f"{span.parent.span_id:016x}"
    if span.links:
        told["links"] = [_link(link) for link in span.links]
    if span.events:
        told["events"] = [_event(event) for event in span.events]
    if span.status.status_code.value:
        told["status"] = {"code": span.status.status_code.value, "message": span.status.description or ""}
    return told


def _link(link: Link) -> dict[str, Any]:
    return {
        "traceId": f"{link.context.trace_id:032x}",
        "spanId": f"{link.context.span_id:016x}",
        "attributes": _attributes(link.attributes),
        "flags": link.context.trace_flags | _remoteness(link.context),
    }


def _event(event: Event) -> dict[str, Any]:
    return {"name": event.name, "timeUnixNano": str(event.timestamp), "attributes": _attributes(event.attributes)}


def _remoteness(parent: SpanContext | None) -> int:
    return _HAS_IS_REMOTE | _IS_REMOTE if parent is not None and parent.is_remote else _HAS_IS_REMOTE


def _of_span(attributes: Mapping[str, Any] | None) -> list[dict[str, Any]] | msgspec.Raw:
    if attributes and _REPEATABLE.issuperset(map(type, attributes.values())):
        return _repeated(tuple(attributes.items()))
    return _attributes(attributes)


@lru_cache(maxsize=256)
def _repeated(attributes: tuple[tuple[str, Any], ...]) -> msgspec.Raw:
    """Encode attributes that many spans share, those of the same route and status, once."""
    return msgspec.Raw(msgspec.json.encode(_attributes(dict(attributes))))


def _attributes(attributes: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()] if attributes else []


def _value(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    name, written = next((name, written) for kind, name, written in _VALUES if isinstance(value, kind))
    return {name: written(value)}


def _double(value: float) -> float | str:
    """Return a number as protobuf's JSON form spells it: JSON itself has no infinity."""
    return value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")


_VALUES: Final[Sequence[tuple[type, str, Callable[[Any], Any]]]] = (
    (str, "stringValue", str),
    (bool, "boolValue", bool),  # a bool is an int as well
    (int, "intValue", str),
    (float, "doubleValue", _double),
    (bytes, "bytesValue", lambda value: b64encode(value).decode()),
    (Mapping, "kvlistValue", lambda value: {"values": _attributes(value)}),
    (Sequence, "arrayValue", lambda value: {"values": [_value(each) for each in value]}),
)

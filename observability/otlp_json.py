"""Spans in OTLP's JSON form.

The same content as the protobuf form of `opentelemetry-exporter-otlp-proto-http`, a sixth of its cost per span: that
one builds a message object for every attribute of every span.
"""

import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

_NOT_FINITE: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}
_REPEATABLE: Final = frozenset({str, int})
"""Types of values that are equal only when they are the same: 1 == 1.0 == True."""
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200


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

"""OTLP as JSON: the content of the protobuf form."""

import json
import math
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from observability.otlp_json import encode
from observability.tracing import HttpRequest, RequestSpans

RESOURCE = Resource({"service.name": "calsvc", "answer": 42, "tags": ("a", "b"), "share": 0.5, "live": True})
SCOPE = InstrumentationScope("calsvc")
OWN = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, is_remote=False, trace_flags=TraceFlags(1))
REMOTE = SpanContext(0x0A, 0x0B, is_remote=True, trace_flags=TraceFlags(1))
REMOTENESS = 0x300
"""The bits of a span's flags that OpenTelemetry's own encoder fills; ours adds the caller's below them."""
PREDICTED = HttpRequest("POST", "http", "/predict", "/predict", 200)


def span(**changes: Any) -> ReadableSpan:
    """A span with as little in it as there can be."""
    plain = {"context": OWN, "resource": RESOURCE, "instrumentation_scope": SCOPE, "start_time": 1, "end_time": 2}
    return ReadableSpan(**{"name": "POST /predict", **plain, **changes})


def as_protobuf_json(value: Any, key: str = "") -> Any:
    """OTLP's JSON writes ids in hexadecimal where protobuf's own has base64; else they are the same."""
    if isinstance(value, dict):
        return {name: as_protobuf_json(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [as_protobuf_json(each) for each in value]
    if key in {"traceId", "spanId", "parentSpanId"}:
        return b64encode(bytes.fromhex(value)).decode()
    return value


def ours(spans: Sequence[ReadableSpan]) -> bytes:
    """Our JSON as a protobuf message, spelled as OpenTelemetry's encoder spells it."""
    message = Parse(json.dumps(as_protobuf_json(json.loads(encode(spans)))), ExportTraceServiceRequest())
    for each in message.resource_spans[0].scope_spans[0].spans:
        each.flags &= REMOTENESS
        each.status.SetInParent()  # no status is the status "unset"
        for link in each.links:
            link.flags &= REMOTENESS
    return message.SerializeToString(deterministic=True)


def theirs(spans: Sequence[ReadableSpan]) -> bytes:
    """The message that opentelemetry-exporter-otlp-proto-http would send."""
    return encode_spans(spans).SerializeToString(deterministic=True)


INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False) | st.just(math.nan)  # of all that are not a number, one
SCALARS = st.one_of(st.text(), st.booleans(), INT64, FLOATS, st.binary(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_leaves=6,
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1), VALUES, max_size=5)
NANOSECONDS = st.integers(0, 2**63 - 1)
STATES = st.sampled_from([None, TraceState(), TraceState([("congo", "t61rcWkgMzE"), ("rojo", "00f0")])])
CONTEXTS = st.builds(
    SpanContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.just(TraceFlags(1)), STATES
)
STATUSES = st.one_of(
    st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR)]),
    st.text().map(lambda text: Status(StatusCode.ERROR, text)),
)
SPANS = st.builds(
    span,
    name=st.text(),
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, st.text(), ATTRIBUTES, NANOSECONDS), max_size=2),
    links=st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=NANOSECONDS,
    end_time=NANOSECONDS,
)


@pytest.mark.slow
@given(st.lists(SPANS, min_size=1, max_size=4))
def test_the_content_is_that_of_the_protobuf_form(spans: list[ReadableSpan]):
    """Names, ids, times, attributes of every type, events, links, status, parents and flags."""
    assert ours(spans) == theirs(spans)


def test_spans_of_an_sdk_have_the_same_content_too():
    """Made by a real tracer, with whatever it puts into them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("calsvc")
    with tracer.start_as_current_span(
        "outer", kind=SpanKind.SERVER, links=[Link(REMOTE, {"why": "feedback"})]
    ) as outer:
        outer.set_attribute("numbers", [1, 2, 3])
        outer.add_event("half way", {"share": 0.5})
        with pytest.raises(ZeroDivisionError), tracer.start_as_current_span("inner"):
            raise ZeroDivisionError
    provider.shutdown()
    spans = exporter.get_finished_spans()
    assert [each.name for each in spans] == ["inner", "outer"]
    assert ours(spans) == theirs(spans)


def test_our_own_spans_have_the_same_content_too():
    """A request's, with a caller and a link."""
    exporter = InMemorySpanExporter()
    spans = RequestSpans(SimpleSpanProcessor(exporter), RESOURCE, "calsvc")
    caller = [(b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), (b"tracestate", b"a=1")]
    for headers, status in (([], 200), (caller, 503), (caller, 404)):
        begun = spans.begin(headers)
        begun.linked = (1, 2)
        begun.end()
        spans.export(begun, PREDICTED._replace(status=status))
    assert ours(exporter.get_finished_spans()) == theirs(exporter.get_finished_spans())


def test_the_flags_say_that_a_span_was_sampled():
    """W3C's flags in the low byte, as OTLP wants them, beside whether the parent is another process's."""
    (sent,) = json.loads(encode([span(parent=REMOTE)]))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert sent["flags"] == 0x301


def values(**attributes: Any) -> list[Any]:
    """How attributes of a span are written."""
    (sent,) = json.loads(encode([span(attributes=attributes)]))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    return [each["value"] for each in sent["attributes"]]


def test_equal_values_of_different_types_stay_different():
    """1, 1.0 and True are one key of a cache, and three values."""
    assert [values(a=value) for value in (1, True, 1.0, 1)] == [
        [{"intValue": "1"}],
        [{"boolValue": True}],
        [{"doubleValue": 1.0}],
        [{"intValue": "1"}],
    ]


@pytest.mark.parametrize(
    ("value", "written"), [(math.nan, "NaN"), (-math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")]
)
def test_a_number_that_json_lacks_is_spelled_as_protobuf_does(value: float, written: str):
    """A bare NaN would be no JSON, and null no value."""
    assert values(a=value) == [{"doubleValue": written}]

"""The server spans of requests (which of them: see `sampling`), and the steps within.

While a request is answered, its span is three numbers and a time. What OpenTelemetry exports is made of them later,
many at once: an SDK's span is built for being changed from any thread at any time, which costs 35 us and is not needed.
"""

import random
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType, TracebackType
from typing import Any, Final, NamedTuple, Self

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
)

from observability.callers import caller_of
from observability.samples import PROFILE_ID, WORTH_A_PROFILE
from observability.sampling import Headers
from observability.signals import Span

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})
OTHER: Final = "_OTHER"
"""What the semantic conventions call any other method."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSET: Final = Status()
_ERROR: Final = Status(StatusCode.ERROR)
_NO_STATE: Final = TraceState()


class RequestSpan:
    """A span that has begun. It is current, for log lines, until it ends.

    Args:
        parent: the caller's span.
        ago: nanoseconds since it began, where that is only now found to be worth a span.
    """

    __slots__ = ("_before", "ended", "linked", "parent", "profiled", "span_id", "started", "steps", "trace_id")

    def __init__(self, parent: SpanContext | None, ago: int = 0) -> None:
        self.parent = parent
        self.trace_id = parent.trace_id if parent else random.getrandbits(128) or 1
        self.span_id = random.getrandbits(64) or 1
        self.linked: tuple[int, int] | None = None
        """Trace and span id of a span elsewhere that this one refers to."""
        self.profiled = False
        """Whether samples of this process that were taken in it carry its id."""
        self.steps: list[Step] = []
        """Those that have ended."""
        self.started = time.time_ns() - ago
        self.ended = 0
        self._before: Token[RequestSpan | None] = _current.set(self)

    def end(self) -> None:
        """Stop the clock, and being current."""
        self.ended = max(self.started, time.time_ns())  # whoever sets the computer's clock back
        _current.reset(self._before)

    def step(self, declared: Span, attributes: Mapping[str, Any], *expected: type[Exception]) -> "Step":
        """Return a context: the work in it becomes a child of this span. Of errors, those `expected` are no faults."""
        return Step(self, declared, attributes, expected)

    @property
    def ids(self) -> dict[str, str]:
        """The span's identity as it stands beside a measurement (an exemplar) and in a log line."""
        return {"trace_id": format_trace_id(self.trace_id), "span_id": format_span_id(self.span_id)}


class Step:
    """A part of a request's work. `attributes` may be replaced until it ends."""

    __slots__ = ("_expected", "_of", "attributes", "declared", "ended", "fault", "started")

    def __init__(
        self, of: RequestSpan, declared: Span, attributes: Mapping[str, Any], expected: tuple[type[Exception], ...]
    ) -> None:
        self.declared = declared
        self.attributes = attributes
        self.fault: str | None = None
        """Name of the error that ended it."""
        self._of = of
        self._expected = expected

    def __enter__(self) -> Self:
        self.started = time.time_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.ended = max(self.started, time.time_ns())
        if kind is not None and not issubclass(kind, self._expected):
            self.fault = kind.__name__
        self._of.steps.append(self)


_current: ContextVar[RequestSpan | None] = ContextVar("span", default=None)


def current_ids() -> dict[str, str]:
    """Return trace and span in which this code runs; empty outside of a span."""
    span = _current.get()
    return span.ids if span else {}


class Ended(NamedTuple):
    """A span as it leaves: times in nanoseconds since the epoch, `linked` trace and span id of a span elsewhere."""

    name: str
    kind: SpanKind
    own: SpanContext
    parent: SpanContext | None
    attributes: Mapping[str, Any]
    started: int
    ended: int
    fault: bool
    linked: tuple[int, int] | None = None


class Outlet:
    """Hands over the ended spans of one process.

    Args:
        processor: takes ended spans: queues, exports.
        resource: what the process is.
        scope: name of the instrumentation.
    """

    def __init__(self, processor: SpanProcessor, resource: Resource, scope: str) -> None:
        self._processor = processor
        self._resource = resource
        self._scope = InstrumentationScope(scope)

    def send(self, span: Ended) -> None:
        """Hand over one span."""
        readable = ReadableSpan(
            name=span.name,
            context=span.own,
            parent=span.parent,
            resource=self._resource,
            attributes=span.attributes,
            links=[_link(*span.linked)] if span.linked else (),
            kind=span.kind,
            status=_ERROR if span.fault else _UNSET,
            start_time=span.started,
            end_time=span.ended,
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(readable)


class RequestSpans:
    """Begins spans, and hands over those that have ended; for the arguments see `Outlet`."""

    def __init__(self, processor: SpanProcessor, resource: Resource, scope: str) -> None:
        self._outlet = Outlet(processor, resource, scope)

    def begin(self, headers: Headers, ago: int = 0) -> RequestSpan:
        """Begin the span of a request, a child of the caller's where one was sent; see `RequestSpan`."""
        return RequestSpan(caller_of(headers), ago)

    def export(self, span: RequestSpan, request: "HttpRequest") -> None:
        """Hand over a span that has ended, after its steps. Only a fault of the service's own makes it an error."""
        state = span.parent.trace_state if span.parent else None
        own = sampled(span.trace_id, span.span_id, state)
        attributes = attributes_of(request)
        if span.profiled and span.ended - span.started >= WORTH_A_PROFILE:
            attributes = {**attributes, PROFILE_ID: format_span_id(span.span_id)}
        for step in span.steps:
            self._outlet.send(_ended(step, own))
        self._outlet.send(
            Ended(
                name=f"{request.method if request.method in METHODS else 'HTTP'} {request.route}".rstrip(),
                kind=SpanKind.SERVER,
                own=own,
                parent=span.parent,
                attributes=attributes,
                started=span.started,
                ended=span.ended,
                fault="error.type" in attributes,
                linked=span.linked,
            )
        )


def sampled(trace_id: int, span_id: int, state: TraceState | None = None) -> SpanContext:
    """Return the identity of a span of this process that leaves it."""
    # Its own constructor checks the range of both ids, which were made or checked here: a fourth of the cost.
    return tuple.__new__(SpanContext, (trace_id, span_id, False, _SAMPLED, state or _NO_STATE, True))


def _ended(step: Step, parent: SpanContext) -> Ended:
    own = sampled(parent.trace_id, random.getrandbits(64) or 1, parent.trace_state)
    attributes = step.attributes if step.fault is None else {**step.attributes, "error.type": step.fault}
    fault = step.fault is not None
    return Ended(step.declared.name, SpanKind.INTERNAL, own, parent, attributes, step.started, step.ended, fault)


def _link(trace_id: int, span_id: int) -> Link:
    return Link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=_SAMPLED))


def known_method(method: str) -> str:
    """Return a method as metrics, spans and log lines name it: nobody can invent one."""
    return method if method in METHODS else OTHER


class HttpRequest(NamedTuple):
    """What spans and log lines tell of a request.

    `route` is empty for a path that does not exist. `error` names what was raised where somebody expected an answer.
    """

    method: str
    scheme: str
    path: str
    route: str
    status: int
    error: str = ""


@lru_cache(maxsize=256)
def attributes_of(request: HttpRequest) -> Mapping[str, str | int]:
    """Return what OpenTelemetry's semantic conventions require of an HTTP server's span."""
    attributes: dict[str, str | int] = {
        "http.request.method": known_method(request.method),
        "url.scheme": request.scheme,
        "url.path": request.path,
        "http.response.status_code": request.status,
    }
    if request.method not in METHODS:
        attributes["http.request.method_original"] = request.method
    if request.route:
        attributes["http.route"] = request.route
    if request.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        attributes["error.type"] = str(request.status)
    elif request.error:
        attributes["error.type"] = request.error  # behind the head of an answer that promised better
    return MappingProxyType(attributes)

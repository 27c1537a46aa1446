"""What every request leaves behind: its duration; where it is sampled, failed or was slow, a span and a log line.

OpenTelemetry's ASGI middleware makes the spans. Nine requests of ten pass it by: it costs more than a prediction, and
the sampler's answer is known before. What failed or was slow and was not sampled gets a span when it has ended.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware, asgi_getter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.http import get_excluded_urls
from prometheus_client import Histogram
from starlette.datastructures import URL
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.events import tell
from observability.otel_environment import is_instrumented
from observability.signals import REQUEST_ANSWERED, REQUEST_FAILED
from observability.tracing import SLOW, Ended, Tracing, drawn, ids_of

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})
OTHER: Final = "_OTHER"
"""What the semantic conventions call any other method."""
PATH_KEPT: Final = 256
"""Characters of a path that a span holds."""
AHEAD: Final = 64
"""Decisions about requests without a caller that are taken at once: many one after the other cost half."""
FAULTS: Final = 500
REFUSED: Final = 503
SPAN: Final = "calsvc.span"
"""Key of a sampled request's SpanContext in its ASGI scope."""
Labels = tuple[str, str, str, str, str]


class Draw(NamedTuple):
    """The decision about one request.

    Args:
        sampled: whether it is recorded.
        trace_id: of the caller's trace, else of the one that the request begins.
        caller: the caller's span and baggage.
        context: what the application runs in where the request is not recorded.
    """

    sampled: bool
    trace_id: int
    caller: Context
    context: Context


class Gate:
    """Decides whether a request is sampled: by what its caller sent, and as the configured sampler says."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._fields = frozenset(field.lower().encode() for field in propagate.get_global_textmap().fields)
        self._not_sampled = NonRecordingSpan(SpanContext(tracing.new_trace_id(), 1, False, TraceFlags(0)))
        """Current where nothing is recorded and no caller has a trace, so that no span in there begins one."""
        self._no_caller = Context()
        self._inside = trace.set_span_in_context(self._not_sampled, self._no_caller)
        self._ahead: list[Draw] = []

    def draw(self, scope: Scope) -> Draw:
        """Decide about one request."""
        if not self._fields.isdisjoint([name for name, _ in scope["headers"]]):
            return self._draw(propagate.extract(dict(scope), Context(), asgi_getter))
        if not self._ahead:
            self._ahead = [self._root(self._no_caller, self._inside) for _ in range(AHEAD)]
        return self._ahead.pop()

    def _draw(self, caller: Context) -> Draw:
        parent = trace.get_current_span(caller).get_span_context()
        if parent.is_valid:
            return Draw(self._tracing.is_sampled(caller, parent.trace_id), parent.trace_id, caller, caller)
        return self._root(caller, trace.set_span_in_context(self._not_sampled, caller))

    def _root(self, caller: Context, inside: Context) -> Draw:
        trace_id = self._tracing.new_trace_id()
        return Draw(self._tracing.is_sampled(caller, trace_id), trace_id, caller, inside)


class Paths(NamedTuple):
    """The paths of an application.

    Args:
        known: any other is recorded with an empty route, so that no client can invent labels.
        quiet: those of probes and scrapes, which leave nothing behind.
    """

    known: Collection[str]
    quiet: Collection[str] = ()


class RequestTelemetry:
    """ASGI middleware that records requests, except those to quiet paths. Exceptions end here, in a log line.

    Args:
        app: answers.
        tracing: makes spans.
        duration: histogram of seconds by `Labels`.
        paths: of the application.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        app: ASGIApp,
        tracing: Tracing,
        duration: Histogram,
        paths: Paths,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.active: Counter[tuple[str, str]] = Counter()
        """Requests that are being answered, by method and scheme."""
        self._app = app
        self._tracing = tracing
        self._duration = duration
        self._clock = clock
        self._routes = frozenset(paths.known)
        self._quiet = frozenset(paths.quiet)
        self._gate = Gate(tracing)
        self._instrumented = is_instrumented()
        self._children: dict[Labels, Any] = {}
        self._excluded = get_excluded_urls("STARLETTE")
        self._traced: ASGIApp = OpenTelemetryMiddleware(
            app,
            excluded_urls=self._excluded,
            default_span_details=self._span_details,
            server_request_hook=_on_span,
            tracer_provider=tracing.provider,
            meter_provider=NoOpMeterProvider(),  # the metrics of requests are here
            exclude_spans=["receive", "send"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and record what becomes of it."""
        if scope["type"] != "http" or scope["path"] in self._quiet:
            await self._app(scope, receive, send)
            return
        started = self._clock()
        request = _Request(scope, self._route(scope), self._gate.draw(scope))
        self.active[request.kind] += 1

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            await send(message)

        try:
            if self._instrumented:
                await self._app(scope, receive, watch)
            elif request.draw.sampled and self._tracing.exports:
                request.scope = {**scope, "query_string": b""}  # a query may hold anything, and no span shall
                with drawn(request.draw.trace_id):
                    await self._traced(request.scope, receive, watch)
            else:
                token = context.attach(request.draw.context)
                try:
                    await self._app(scope, receive, watch)
                finally:
                    context.detach(token)
        except Exception as error:  # noqa: BLE001 - the server would log it a second time
            request.error = error
        finally:
            self.active[request.kind] -= 1
            self._record(request, self._clock() - started)

    def _record(self, request: "_Request", seconds: float) -> None:
        span: SpanContext | None = request.scope.get(SPAN)
        is_notable = request.is_fault or (self._tracing.samples_any and seconds >= SLOW)
        if span is None and is_notable and self._may_record(request.scope):
            span = self._tracing.record(request.ended(seconds))
        labels = request.labels
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._duration.labels(*labels)
        child.observe(seconds, ids_of(span) if span is not None else None)
        if request.draw.sampled or is_notable:
            _log(request, seconds, span)

    def _may_record(self, scope: Scope) -> bool:
        if not (self._tracing.samples_any and self._tracing.exports):
            return False
        url = str(URL(scope={**scope, "query_string": b""}))
        return not self._excluded.url_disabled(url)

    def _route(self, scope: Scope) -> str:
        path: str = scope["path"]
        return path if path in self._routes else ""

    def _span_details(self, scope: MutableMapping[str, Any]) -> tuple[str, dict[str, Any]]:
        route = self._route(scope)
        method = scope["method"] if scope["method"] in METHODS else "HTTP"
        return f"{method} {route}".rstrip(), {"http.route": route} if route else {}


class _Request:
    """One request, and what has become of it."""

    __slots__ = ("draw", "error", "kind", "route", "scope", "status")

    def __init__(self, scope: Scope, route: str, draw: Draw) -> None:
        self.scope = scope
        self.route = route
        self.draw = draw
        method = scope["method"]
        self.kind = (method if method in METHODS else OTHER, scope["scheme"])
        self.status = FAULTS
        self.error: Exception | None = None

    @property
    def is_fault(self) -> bool:
        """Whether it failed by a mistake of the service; refusals are many, and counted."""
        return self.error is not None or (self.status >= FAULTS and self.status != REFUSED)

    @property
    def error_type(self) -> str:
        """As the semantic conventions have it; empty where nothing failed."""
        if self.error is not None:
            return type(self.error).__name__
        return str(self.status) if self.status >= FAULTS else ""

    @property
    def labels(self) -> Labels:
        """Route, method, status, scheme and error."""
        method, scheme = self.kind
        return self.route, method, str(self.status), scheme, self.error_type

    def ended(self, seconds: float) -> Ended:
        """Return what the span of a request says that has ended and was not sampled."""
        method, scheme = self.kind
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.scheme": scheme,
            "url.path": self.scope["path"][:PATH_KEPT],
            "http.response.status_code": self.status,
        }
        if method == OTHER:
            attributes["http.request.method_original"] = self.scope["method"]
        if self.route:
            attributes["http.route"] = self.route
        if self.error_type:
            attributes["error.type"] = self.error_type
        name = f"{method if method != OTHER else 'HTTP'} {self.route}".rstrip()
        return Ended(name, SpanKind.SERVER, seconds, attributes, self.draw.caller, self.draw.trace_id)


def _on_span(span: trace.Span, scope: MutableMapping[str, Any]) -> None:
    scope[SPAN] = span.get_span_context()
    if scope.get("server"):
        span.set_attribute("server.address", scope["server"][0])  # the instrumentation adds the port to it


def _log(request: _Request, seconds: float, span: SpanContext | None) -> None:
    method, _ = request.kind
    attributes: dict[str, str | int | float] = {
        **(ids_of(span) if span is not None else _caller(request.draw)),
        "http.request.method": method,
        "http.route": request.route,
        "http.response.status_code": request.status,
        "duration_ms": round(seconds * 1e3, 3),
    }
    tell(REQUEST_FAILED if request.is_fault else REQUEST_ANSWERED, attributes, request.error)


def _caller(draw: Draw) -> Mapping[str, str]:
    parent = trace.get_current_span(draw.caller).get_span_context()
    return {"trace_id": trace.format_trace_id(parent.trace_id)} if parent.is_remote else {}

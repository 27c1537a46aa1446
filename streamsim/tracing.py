"""The simulator's spans: one for each request of a sampled record, the parent of the service's own.

OpenTelemetry's instrumentation of aiohttp makes them. It ends a span with the head of the answer; what fails behind it,
and what failed or was slow though its record was not sampled, gets a span when it has ended.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final

import aiohttp
import yarl
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from observability.addresses import server_of
from observability.provenance import resource_of
from observability.telemetry import processors_from
from observability.tracing import SLOW, Ended, Tracing, drawn, linked_context
from streamsim.answers import Cause, Identity
from streamsim.calls import Call
from streamsim.client import cause_of_error

SERVICE: Final = "streamsim"
REFUSALS: Final = frozenset({Cause.HTTP_503, Cause.REFUSED, Cause.NOT_SENT})
"""Many at a time, and counted: only those of sampled records have a span."""
_NOTHING: Final = nullcontext()
_current: ContextVar[Call] = ContextVar("the request that is sent")


@contextmanager
def open_spans(environ: Mapping[str, str], share: float, patience: float) -> Iterator["CallSpans"]:
    """Make spans of a share of the records.

    Args:
        environ: says where the spans go; `observability.otel_environment` has checked it.
        share: of the records, that are sampled.
        patience: seconds that the last spans have at the end, besides the export that is under way.
    """
    resource = Resource.create(dict(resource_of(SERVICE)))
    tracing = Tracing(resource, processors_from(environ, patience), ALWAYS_ON)
    try:
        yield CallSpans(tracing, share)
    finally:
        tracing.shutdown()


class CallSpans:
    """Makes spans of requests; see `streamsim.calls.CallTracing`."""

    def __init__(self, tracing: Tracing, share: float) -> None:
        self.share = share
        self._tracing = tracing

    def headers(self, identity: Identity) -> Mapping[str, str]:
        """Return a trace context, as OTEL_PROPAGATORS says."""
        return injected(identity)

    @contextmanager
    def instrumented(self) -> Iterator[None]:
        """Let the sessions that are opened meanwhile make a span of each request."""
        instrumentor = AioHttpClientInstrumentor()
        instrumentor.instrument(
            tracer_provider=self._tracing.provider,
            meter_provider=NoOpMeterProvider(),
            url_filter=_without_secrets,
            request_hook=_on_request,
            response_hook=_on_response,
        )
        try:
            yield
        finally:
            instrumentor.uninstrument()

    def request(self, call: Call) -> AbstractContextManager[None]:
        """Give the span of a sampled request its ids and attributes; make the span that another has earned."""
        return self._sampled(call) if call.identity.traced else self._unsampled(call)

    @contextmanager
    def _sampled(self, call: Call) -> Iterator[None]:
        began = time.perf_counter()
        token = _current.set(call)
        try:
            with drawn(call.identity.trace_id, call.identity.span_id):
                yield
        finally:
            _current.reset(token)
            if not (call.failed_in_span or call.cause in (None, Cause.OK)):
                self._record(call, time.perf_counter() - began, trace.set_span_in_context(_span_of(call.identity)))

    @contextmanager
    def _unsampled(self, call: Call) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - began
            if call.cause is not None and (seconds >= SLOW or call.cause not in REFUSALS | {Cause.OK}):
                self._record(call, seconds, None)

    def _record(self, call: Call, seconds: float, parent: Context | None) -> None:
        trace_id, span_id = call.identity.trace_id, 0 if parent else call.identity.span_id
        self._tracing.record(
            Ended(
                f"POST {call.path}",
                SpanKind.CLIENT,
                seconds,
                attributes_of(call),
                parent,
                trace_id,
                span_id,
                None if parent else call.linked,
            )
        )


def injected(identity: Identity) -> Mapping[str, str]:
    """Return a trace context, as OTEL_PROPAGATORS says."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(_span_of(identity), Context()))
    return carrier


def attributes_of(call: Call) -> dict[str, str | int]:
    """Return what the instrumentation would say of a request that has ended."""
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "url.full": _without_secrets(yarl.URL(call.url)),
        "server.address": server_of(call.url)["server.address"],
        **_own_attributes(call),
    }
    status = call.answer.status if call.answer is not None else 0
    if status:
        attributes["http.response.status_code"] = status
    if call.cause not in (None, Cause.OK):
        attributes["error.type"] = str(status) if status >= 400 else str(call.cause)
    return attributes


def _own_attributes(call: Call) -> dict[str, str | int]:
    """Return what the instrumentation does not know; it leaves out the port where it is a usual one."""
    resent = {"http.request.resend_count": call.resends} if call.resends else {}
    return {"url.template": call.path, "server.port": server_of(call.url)["server.port"], **resent}


def _on_request(span: Span, _params: aiohttp.TraceRequestStartParams) -> None:
    call = _current.get()
    span.update_name(f"POST {call.path}")
    span.set_attributes(_own_attributes(call))
    if call.linked is not None:
        span.add_link(linked_context(call.linked))


def _on_response(span: Span, params: aiohttp.TraceRequestEndParams | aiohttp.TraceRequestExceptionParams) -> None:
    call = _current.get()
    if isinstance(params, aiohttp.TraceRequestEndParams):
        call.failed_in_span = params.response.status >= 400
        return
    call.failed_in_span = True
    if call.scope.cancel_called:
        span.set_attribute("error.type", str(Cause.TIMEOUT))
    elif isinstance(params.exception, Exception):  # not where the run is interrupted
        span.set_attribute("error.type", str(cause_of_error(params.exception)))


def _span_of(identity: Identity) -> Span:
    flags = TraceFlags(TraceFlags.SAMPLED if identity.traced else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(identity.trace_id, identity.span_id, is_remote=False, trace_flags=flags))


def _without_secrets(url: yarl.URL) -> str:
    return str(url.with_user(None).with_query(None).with_fragment(None))

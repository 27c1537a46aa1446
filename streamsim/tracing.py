"""The simulator's spans: of the requests of traced records, and of those that failed or were slow.

aiohttp's instrumentation makes those of traced records. The others pass it by; what failed or was slow has its span
when it has ended, in the trace that the service was told of, so that both halves of such a trace are there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import yarl
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from observability.addresses import server_of, without_user
from observability.provenance import resource_of
from observability.requests import SLOW
from observability.tracing import Ended, Tracing, drawn, linked_context
from streamsim.answers import Cause, Identity
from streamsim.client import Call

SERVICE: Final = "streamsim"
REFUSALS: Final = frozenset({Cause.HTTP_503, Cause.REFUSED, Cause.NOT_SENT})
"""Many at a time, and counted: only those of traced records have a span."""
_about: ContextVar[tuple[tuple[int, int] | None, bool]] = ContextVar("linked span, resent", default=(None, False))


@contextmanager
def open_spans(processors: Sequence[SpanProcessor]) -> Iterator["CallSpans"]:
    """Make spans of requests, and export the last of them at the end."""
    # The records that are traced are known before: the SDK's sampler is not asked.
    tracing = Tracing(Resource.create(dict(resource_of(SERVICE))), processors, ALWAYS_ON)
    try:
        yield CallSpans(tracing)
    finally:
        tracing.shutdown()


class CallSpans:
    """See `Calls`."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    @contextmanager
    def instrumented(self) -> Iterator[None]:
        """See `Calls.instrumented`."""
        instrumentor = AioHttpClientInstrumentor()
        instrumentor.instrument(
            tracer_provider=self._tracing.provider,
            meter_provider=NoOpMeterProvider(),
            url_filter=_shown,
            request_hook=_on_span,
        )
        try:
            yield
        finally:
            instrumentor.uninstrument()

    def headers(self, identity: Identity) -> dict[str, str]:
        """See `Calls.headers`."""
        headers: dict[str, str] = {}
        own = SpanContext(identity.trace_id, identity.span_id, False, TraceFlags(0))
        if not identity.traced:
            propagate.inject(headers, trace.set_span_in_context(NonRecordingSpan(own), Context()))
        return headers

    @contextmanager
    def sending(self, identity: Identity, linked: tuple[int, int] | None, *, resent: bool) -> Iterator[None]:
        """See `Calls.sending`."""
        token = _about.set((linked, resent))
        try:
            with drawn(identity.trace_id, 0 if resent else identity.span_id):
                yield
        finally:
            _about.reset(token)

    def note(self, call: Call) -> None:
        """See `Calls.note`."""
        cause, status, identity = call.answer.cause, call.answer.status, call.identity
        seconds = (call.ended - call.began) / 1e9
        is_notable = seconds >= SLOW or (cause is not Cause.OK and cause not in REFUSALS)
        if identity.traced or not is_notable:
            return
        address = without_user(call.url)
        server = server_of(address)
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "server.address": server["server.address"],
            "server.port": server["server.port"],
            "url.full": address,
            "url.template": call.path,
        }
        if status:
            attributes["http.response.status_code"] = status
        if call.resent:
            attributes["http.request.resend_count"] = 1
        if cause is not Cause.OK:
            attributes["error.type"] = str(status) if status >= 400 else str(cause)
        name = f"POST {call.path}"
        ended = Ended(
            name, SpanKind.CLIENT, seconds, attributes, None, identity.trace_id, identity.span_id, call.linked
        )
        self._tracing.record(ended)


def _on_span(span: trace.Span, params: aiohttp.TraceRequestStartParams) -> None:
    path = params.url.path
    span.update_name(f"{params.method} {path}")
    span.set_attribute("url.template", path)
    linked, resent = _about.get()
    if resent:
        span.set_attribute("http.request.resend_count", 1)
    if linked is not None:
        span.add_link(linked_context(linked))


def _shown(url: yarl.URL) -> str:
    return urlsplit(without_user(str(url)))._replace(query="").geturl()

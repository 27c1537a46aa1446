"""The simulator's spans: one for each request of a traced record, the parent of the service's own.

As on the other side, what fails or is slow has one too, although the service was not asked to trace it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind

from observability.otlp import OtlpJsonExporter, SpanQueue
from observability.provenance import resource_of
from observability.sampling import SLOW, Collector, server_of
from observability.tracing import Ended, Outlet, sampled
from streamsim.answers import Cause
from streamsim.client import Call

SERVICE: Final = "streamsim"
REFUSALS: Final = frozenset({Cause.HTTP_503, Cause.REFUSED, Cause.NOT_SENT})
"""Many at a time, and counted: only those of traced records have a span."""
_SLOW_NS: Final = int(SLOW * 1e9)


@contextmanager
def open_spans(collector: Collector, url: str) -> Iterator["CallSpans"]:
    """Open spans of requests to the service at `url`; at the end wait for the last of them, but not for long."""
    queue = SpanQueue(OtlpJsonExporter(collector))
    try:
        yield CallSpans(Outlet(queue, Resource.create(dict(resource_of(SERVICE))), SERVICE), url)
    finally:
        queue.shutdown()


class CallSpans:
    """Makes spans of requests that have ended."""

    def __init__(self, outlet: Outlet, url: str) -> None:
        self._outlet = outlet
        self._url = url.rstrip("/")

    def note(self, call: Call) -> None:
        """See `Calls.note`."""
        cause, status = call.answer.cause, call.answer.status
        fault = cause is not Cause.OK
        notable = call.ended - call.began >= _SLOW_NS or (fault and cause not in REFUSALS)
        if not (call.identity.traced or notable):
            return
        self._outlet.send(
            Ended(
                name=f"POST {call.path}",
                kind=SpanKind.CLIENT,
                own=sampled(call.identity.trace_id, call.identity.span_id),
                parent=None,
                attributes=attributes_of(Told(self._url, call.path, cause, status, call.resent)),
                started=call.began,
                ended=call.ended,
                fault=fault,
                linked=call.linked,
            )
        )


class Told(NamedTuple):
    """What a span tells of a request."""

    url: str
    path: str
    cause: Cause
    status: int
    resent: bool


@lru_cache(maxsize=256)
def attributes_of(told: Told) -> Mapping[str, Any]:
    """Return what OpenTelemetry's semantic conventions require of an HTTP client's span."""
    parts = urlsplit(told.url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2])  # without a password
    attributes: dict[str, Any] = {
        "http.request.method": "POST",
        **server_of(told.url),
        "url.full": address.geturl() + told.path,
        "url.template": told.path,
    }
    if told.status:
        attributes["http.response.status_code"] = told.status
    if told.resent:
        attributes["http.request.resend_count"] = 1
    if told.cause is not Cause.OK:
        attributes["error.type"] = str(told.status) if told.status >= 400 else str(told.cause)
    return attributes

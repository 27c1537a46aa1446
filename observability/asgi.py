"""What every request leaves behind: its duration, and where it was drawn, a span, an exemplar and a log line.

So does one that fails or is slow, drawn or not: what it was can be said when it has ended, but not what was done in it.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, Self

from opentelemetry.trace import SpanContext, format_trace_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.callers import caller_of
from observability.events import Told, record_of
from observability.histogram import Distribution, Histogram
from observability.samples import WORK
from observability.sampling import SLOW, Sampling, is_drawn
from observability.signals import REQUEST_ANSWERED, REQUEST_FAILED
from observability.tracing import HttpRequest, RequestSpan, RequestSpans, known_method

FAULTS: Final = int(HTTPStatus.INTERNAL_SERVER_ERROR)
REFUSED: Final = int(HTTPStatus.SERVICE_UNAVAILABLE)
"""Numbers: comparing with a member of an enum costs three times as much, and every request is compared."""
NOTED: Final = 64
"""Requests of which is told at once: few enough for a pause of less than a millisecond."""
PATH_KEPT: Final = 256
"""Characters of a path that a span holds: a client may send megabytes, and thousands of spans may wait."""
log = logging.getLogger(REQUEST_ANSWERED.owner)


class Watched(NamedTuple):
    """What to record of requests, and where.

    Args:
        duration: histogram of seconds by route, method and status.
        routes: the paths that exist; any other is recorded with an empty route, so that nobody can invent labels.
        quiet: paths that leave nothing behind (probes, scrapes).
        sampling: which requests are traced and logged.
        spans: where spans are started; None where no collector is named.
        clock: seconds, monotonic.
    """

    duration: Histogram
    routes: Collection[str]
    quiet: Collection[str]
    sampling: Sampling
    spans: RequestSpans | None
    clock: Callable[[], float]


class Noted(NamedTuple):
    """What is to be told of a request. Not its scope: memory that is given back at once is used again while it is warm.

    `seconds` it took, `ended` in seconds since the epoch. `caller` is known where there is no span.
    """

    http: HttpRequest
    seconds: float
    ended: float
    span: RequestSpan | None
    caller: SpanContext | None
    error: Exception | None


class Recorder:
    """Records requests; see `Watched`.

    The duration is counted at once. Span and log line of a drawn request are only noted, and made by `tell`: many of
    them one after the other, the code stays in the processor's cache, and each costs a third.
    """

    def __init__(self, watched: Watched) -> None:
        self.clock = watched.clock
        self.sampling = watched.sampling
        self.spans = watched.spans
        self.slow = SLOW if watched.sampling.ratio else math.inf
        """Seconds from which a request is told of although it was not drawn."""
        self.quiet = frozenset(watched.quiet)
        self._duration = watched.duration
        self._routes = frozenset(watched.routes)
        self._distributions: dict[tuple[str, str, int], Distribution] = {}
        self._noted: list[Noted] = []

    def duration(self, scope: Scope, status: int) -> Distribution:
        """Return where durations of such requests go, resolved once for each of the few sets of labels there can be."""
        key = (scope["path"], scope["method"], status)
        known = self._distributions.get(key)
        if known is not None:
            return known
        route, method = self._route(scope), known_method(scope["method"])
        found = self._duration.labels(route, method, str(status))
        if key[:2] == (route, method):  # what anybody may invent is not kept
            self._distributions[key] = found
        return found

    def span_of_the_past(self, scope: Scope, seconds: float) -> RequestSpan | None:
        """Begin the span of a request that has taken `seconds` and was not drawn; None where that was never wanted."""
        if self.spans is None or not self.sampling.ratio:
            return None
        return self.spans.begin(scope["headers"], int(seconds * 1e9))

    def note(self, request: "Request", seconds: float) -> None:
        """Keep what is to be told of a request, later, or now, when there is much or it has failed."""
        scope, status, error = request.scope, request.status, request.error
        kind = type(error).__name__ if error is not None else ""
        path = scope["path"][:PATH_KEPT]
        http = HttpRequest(scope["method"], scope["scheme"], path, self._route(scope), status, kind)
        caller = caller_of(scope["headers"]) if request.span is None else None
        self._noted.append(Noted(http, seconds, time.time(), request.span, caller, error))
        if len(self._noted) >= NOTED or request.is_fault:
            self.tell()

    def tell(self) -> None:
        """Write the log lines and hand over the spans of all that was noted."""
        noted, self._noted = self._noted, []
        for each in noted:
            log.handle(record_of(_told(each), each.ended, each.error))
            if each.span is not None and self.spans is not None:
                self.spans.export(each.span, each.http)

    def _route(self, scope: Scope) -> str:
        path: str = scope["path"]
        return path if path in self._routes else ""


class Request:
    """The context in which one request is answered. Whoever answers it sets `status`."""

    __slots__ = ("_drawn", "_recorder", "_started", "error", "scope", "span", "status")

    def __init__(self, recorder: Recorder, scope: Scope) -> None:
        self.status = 500  # what the server answers for an application that dies without a word
        self.error: Exception | None = None
        self.scope = scope
        self.span: RequestSpan | None = None
        self._recorder = recorder

    def __enter__(self) -> Self:
        """Begin to measure; where the request was drawn, its span is current from here on."""
        recorder = self._recorder
        headers = self.scope["headers"]
        self._started = recorder.clock()
        self._drawn = is_drawn(recorder.sampling, headers)
        if self._drawn and recorder.spans is not None:
            self.span = recorder.spans.begin(headers)
            if (work := self.scope.get(WORK)) is not None:
                work.of_span(self.span.span_id)
                self.span.profiled = True
        return self

    def __exit__(self, *_: object) -> None:
        """Record what became of it."""
        recorder = self._recorder
        seconds = recorder.clock() - self._started
        told = self._drawn or seconds >= recorder.slow or self.is_fault
        if told and self.span is None:
            self.span = recorder.span_of_the_past(self.scope, seconds)
        recorder.duration(self.scope, self.status).observe(seconds, self.span)
        if self.span is not None:
            self.span.end()
        if told:
            recorder.note(self, seconds)

    def failed(self, error: Exception) -> None:
        """Take down what nobody expected, for the log line. From here on there is a span, if there may be any."""
        self.error = error
        if self.span is None:
            self.span = self._recorder.span_of_the_past(self.scope, self._recorder.clock() - self._started)

    @property
    def is_fault(self) -> bool:
        """Whether somebody should hear of it by itself."""
        return is_fault(self.status, self.error)


def is_fault(status: int, error: Exception | None) -> bool:
    """Tell whether somebody should hear of each request that ended so. Refusals are many, and counted."""
    return error is not None or (status >= FAULTS and status != REFUSED)


def _told(noted: Noted) -> Told:
    attributes = {
        **_ids(noted),
        "http.request.method": known_method(noted.http.method),
        "http.route": noted.http.route,
        "http.response.status_code": noted.http.status,
        "duration_ms": round(noted.seconds * 1e3, 3),
    }
    return Told(REQUEST_FAILED if is_fault(noted.http.status, noted.error) else REQUEST_ANSWERED, attributes)


def _ids(noted: Noted) -> Mapping[str, str]:
    if noted.span is not None:
        return noted.span.ids
    return {"trace_id": format_trace_id(noted.caller.trace_id)} if noted.caller is not None else {}


class Observed:
    """ASGI middleware that records every request, except those to quiet paths.

    What the application raises ends here, in the log line of its request. The server sees what is missing then: it
    answers 500, or closes the connection behind half an answer.
    """

    def __init__(self, app: ASGIApp, recorder: Recorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and record what becomes of it."""
        if scope["type"] != "http" or scope["path"] in self._recorder.quiet:
            await self._app(scope, receive, send)
            return
        with Request(self._recorder, scope) as request:

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    request.status = message["status"]
                await send(message)

            try:
                await self._app(scope, receive, watch)
            except Exception as error:  # noqa: BLE001 - the traceback goes into the log, see above
                request.failed(error)

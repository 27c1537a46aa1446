"""Request durations, measured around the whole application."""

from collections.abc import Callable, Collection
from typing import Any, Final

from opentelemetry.metrics import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})

Attributes = dict[str, Any]


class RequestMetrics:
    """ASGI middleware: records `http.server.request.duration` in seconds, once per request.

    Args:
        app: the application to measure.
        histogram: where durations go.
        routes: the paths that exist; any other path is recorded without a route, so that nobody can invent labels.
        quiet: paths that are not recorded (probes, scrapes).
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        app: ASGIApp,
        histogram: Histogram,
        routes: Collection[str],
        quiet: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._histogram = histogram
        self._routes = frozenset(routes)
        self._quiet = frozenset(quiet)
        self._clock = clock
        self._attributes: dict[tuple[str | None, str, int], Attributes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and record how long its answer took."""
        if scope["type"] != "http" or scope["path"] in self._quiet:
            await self._app(scope, receive, send)
            return
        started = self._clock()
        status = 500  # what the server answers for an application that dies without a word

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            self._histogram.record(self._clock() - started, self._attributes_of(scope, status))

    def _attributes_of(self, scope: Scope, status: int) -> Attributes:
        path, method = scope["path"], scope["method"]
        key = (path if path in self._routes else None, method if method in METHODS else "_OTHER", status)
        attributes = self._attributes.get(key)
        if attributes is None:
            route, method, _ = key
            attributes = {"http.request.method": method, "http.response.status_code": status}
            if route is not None:
                attributes["http.route"] = route
            self._attributes[key] = attributes
        return attributes

"""Request durations, measured around the whole application."""

from collections.abc import Callable, Collection
from typing import Final

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"})


class RequestMetrics:
    """ASGI middleware: records `http.server.request.duration` in seconds, once per request.

    Args:
        app: the application to measure.
        histogram: where durations go.
        routes: the paths that exist; any other is recorded with an empty route, so that nobody can invent labels.
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
        self._children: dict[tuple[str, str, int], Histogram] = {}

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
            self._child(scope, status).observe(self._clock() - started)

    def _child(self, scope: Scope, status: int) -> Histogram:
        """Return the histogram of one set of labels, made once for each of the few there can be."""
        path, method = scope["path"], scope["method"]
        key = (path if path in self._routes else "", method if method in METHODS else "_OTHER", status)
        child = self._children.get(key)
        if child is None:
            route, method, _ = key
            child = self._children[key] = self._histogram.labels(
                http_route=route, http_request_method=method, http_response_status_code=str(status)
            )
        return child

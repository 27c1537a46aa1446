"""Headers that tell a browser to keep its hands off what this service says."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer but those of the two calls, unless it has its own."""
OF_CALLS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""Of a prediction and of a feedback's status: the rest is for what a browser would show, and each header costs."""
_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Hardened:
    """ASGI middleware that adds what an answer does not say itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer with its headers."""

        async def harden(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name for name, _ in message["headers"]}
                message = {**message, "headers": [*message["headers"], *(each for each in _RAW if each[0] not in said)]}
            await send(message)

        await self._app(scope, receive, harden)

"""ASGI middleware of the service, each for one purpose."""

import hmac
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsvc.http.errors import BodyTooLarge, Overloaded, Unauthorized, UpgradeIgnored, WrongMediaType
from calsvc.lifecycle import Lifecycle
from observability.logs import clipped

MAX_BODY: Final = 64 * 1024
"""Bytes of a request body that are read; a record has some 150."""
JSON: Final = b"application/json"
SHOWN: Final = 80
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RAW_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
OF_CALLS: Final = [each for each in _RAW_HEADERS if each[0] in (b"x-content-type-options", b"cache-control")]
"""Those that count for an answer to a call, which no browser shows: each header costs half a microsecond."""
_SCHEME: Final = b"bearer "


class SecurityHeaders:
    """Adds headers that limit what a browser does with an answer, where the answer does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer with its headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *[each for each in _RAW_HEADERS if each[0] not in given]]
            await send(message)

        await self._app(scope, receive, with_headers)


class CloseWhileDraining:
    """Lets every answer close its connection once the process is to end, so that clients connect elsewhere."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer with `Connection: close`."""
        if not self._lifecycle.leaving or scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, closing)


class BearerToken:
    """Refuses requests without the token. How long it takes does not tell how much was right."""

    def __init__(self, app: ASGIApp, token: bytes) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request with the token."""
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        given = sent[0] if len(sent) == 1 and sent[0][: len(_SCHEME)].lower() == _SCHEME else b""
        if not hmac.compare_digest(given[len(_SCHEME) :].strip(b" "), self._token):
            raise Unauthorized("the header Authorization: Bearer, with the right token, is missing")
        await self._app(scope, receive, send)


class JsonBody:
    """Refuses a body that is not declared as JSON, or larger than `MAX_BODY`; hands on the others in one message."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body has been read."""
        headers = dict(scope["headers"])
        if headers.get(b"content-type") != JSON:
            _demand_json(headers.get(b"content-type", b"").decode("latin-1"))
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise WrongMediaType("the body has a Content-Encoding; it is taken as it is, without any")
        body = await _read(receive)
        if not body and b"upgrade" in headers:
            raise UpgradeIgnored(
                f"no body can be read behind Upgrade: {clipped(headers[b'upgrade'].decode('latin-1'), SHOWN)}; send it "
                "without that header (Java: HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1))"
            )

        async def whole() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)


class InFlight:
    """How many requests are being answered, how many may be, and how many were refused since the start."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 0
        self.refused = 0


class InFlightLimit:
    """Refuses a request where `limit` others are being answered. It has been read: a slow client takes no place."""

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request while there is room."""
        in_flight = self._in_flight
        if in_flight.now >= in_flight.limit:
            in_flight.refused += 1
            raise Overloaded(f"{in_flight.limit} requests are waiting already; try again in a moment")
        in_flight.now += 1
        try:
            await self._app(scope, receive, send)
        finally:
            in_flight.now -= 1


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise BodyTooLarge(f"the body is larger than {MAX_BODY} bytes")
    return body


def _demand_json(media_type: str) -> None:
    if media_type.partition(";")[0].strip().lower() != JSON.decode():
        raise WrongMediaType(f"Content-Type is {clipped(media_type, SHOWN)!r}, expected {JSON.decode()}")

"""The calls that carry the load, answered on bare ASGI: no request, response or routing object is built for them.

Starlette's own objects cost more than the model's trees do (docs/performance.md). Whatever is rare goes to Starlette:
other methods and paths, and the rendering of every error.
"""

from collections.abc import Callable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calsvc.bearer import demand_token
from calsvc.endpoints import CALLS
from calsvc.errors import BodyTooLarge, CalsvcError, NotJson, WrongMediaType
from calsvc.hardening import OF_CALLS
from calsvc.problems import SHOWN
from calsvc.service import Service
from observability.asgi import Recorder, Request
from observability.logs import clipped

MAX_BODY: Final = 64 * 1024
"""Bytes of a request body that are read; a record has some 150."""
JSON: Final = "application/json"
_JSON_BYTES: Final = JSON.encode()
_HEADERS: Final = ((b"content-type", _JSON_BYTES), *OF_CALLS)


class Direct:
    """ASGI application that answers POSTs to a few paths itself and leaves the rest to another.

    Args:
        app: takes everything else.
        service: what the calls work on.
        recorder: told of every request that is answered here.
        problem: the response for an error.
    """

    def __init__(
        self, app: ASGIApp, service: Service, recorder: Recorder, problem: Callable[[Exception, Scope], Response]
    ) -> None:
        self._app = app
        self._service = service
        self._recorder = recorder
        self._problem = problem
        self._token = service.settings.bearer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        call = CALLS.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if call is None:
            await self._app(scope, receive, send)
            return
        with Request(self._recorder, scope) as request:
            try:
                if self._token is not None:
                    demand_token(scope["headers"], self._token)
                demand_json(scope)
                message = await receive()
                body = whole(message)
                if body is None:
                    body = await in_parts(message, receive)
                self._service.admission.admit()  # not before: until it is whole, a request takes nobody's place
                reply = await call(self._service, body, request.span)
            except Exception as error:  # noqa: BLE001 - all are answered; a mistake goes into the log, with its traceback
                if not isinstance(error, CalsvcError | ClientDisconnect):
                    request.failed(error)
                response = self._problem(coded(error, scope), scope)
                request.status = response.status_code
                await response(scope, receive, send)
                return
            headers = [(b"content-length", b"%d" % len(reply.body)), *_HEADERS, *reply.headers]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": reply.body})
            request.status = 200
        if reply.sent is not None and (rest := reply.sent()) is not None:
            await rest


def whole(message: Message) -> bytes | None:
    """Return a body that came in one message, None where there is more to come."""
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return None if message.get("more_body") else _bounded(message.get("body", b""))


async def in_parts(begun: Message, receive: Receive) -> bytes:
    """Return a body of which the first message has been read."""
    body, message = b"", begun
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body = _bounded(body + message.get("body", b""))
        if not message.get("more_body"):
            return body
        message = await receive()


def _bounded(body: bytes) -> bytes:
    if len(body) > MAX_BODY:
        raise BodyTooLarge(f"the body is larger than {MAX_BODY} bytes")
    return body


def coded(error: Exception, scope: Scope) -> Exception:
    """Say of a body that is not JSON that it was compressed, where it was: nothing is unpacked here."""
    coding = next((value for name, value in scope["headers"] if name == b"content-encoding"), b"identity")
    if isinstance(error, NotJson) and coding.lower() != b"identity":
        return WrongMediaType("the body has a Content-Encoding; it is taken as it is, without any")
    return error


def demand_json(scope: Scope) -> None:
    """Raise `WrongMediaType` where a request does not say that its body is JSON."""
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            if value == _JSON_BYTES:
                return
            media_type = value
            break
    text = media_type.decode("latin-1")
    if text.partition(";")[0].strip().lower() != JSON:
        raise WrongMediaType(f"Content-Type is {clipped(text, SHOWN)!r}, expected {JSON}")

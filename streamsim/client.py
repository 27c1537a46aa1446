"""The HTTP side: sends one record or one truth, and names what became of it. No outcome raises.

The service's documented contract is all that is known here: POST /predict and POST /feedback, both idempotent by id.
"""

import errno
import json
import random
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import anyio

from observability.addresses import without_credentials
from streamsim.answers import (
    Answer,
    Cause,
    Identity,
    cause_of,
    document_of,
    is_prediction,
    is_status,
    is_traced,
    linked_by,
    seconds_of,
)
from streamsim.calls import Call, CallTracing, ContextOnly
from streamsim.environ import TOKEN, TOKEN_FILE
from streamsim.rows import Record

MAX_ANSWER_BYTES: Final = 64 * 1024
UNAUTHORIZED: Final = (401, 403)
NO_TOKEN: Final = f"it asks for a token; set {TOKEN}, or {TOKEN_FILE} to a file that holds it"
WRONG_TOKEN: Final = f"it does not take the token of {TOKEN} (or {TOKEN_FILE})"


class Client:
    """Sends to one service. Use `open_client`.

    Counts in `resent_to`, by path, the requests that met a connection the service had closed while it was idle.
    """

    def __init__(self, sessions: "_Sessions", url: str, patience: float, tracing: CallTracing, hint: str = "") -> None:
        self._sessions = sessions
        self._url = url.rstrip("/")
        self._patience = patience
        self._tracing = tracing
        self._hint = hint
        self._is_told = False
        self._random = random.Random()  # noqa: S311  trace ids have to be different, not secret
        self.resent_to: Counter[str] = Counter()

    @property
    def resent(self) -> int:
        """How many were sent again."""
        return self.resent_to.total()

    async def predict(self, record: Record, patience: float | None = None) -> Answer:
        """Ask for one prediction; OK means the right id came back with a finite Calories.

        Args:
            record: what to predict.
            patience: seconds for the whole answer; the client's own where nothing is said.
        """
        answer = await self._post("/predict", record.id_json, record.body, patience=patience)
        if answer.cause is Cause.OK and not is_prediction(answer.document, json.loads(record.id_json)):
            return answer._replace(cause=Cause.BAD_ANSWER)
        return answer

    async def feedback(self, id_json: str, truth: float, prediction: str | None = None) -> Answer:
        """Send one truth; OK means the right id came back as matched or duplicate.

        Args:
            id_json: the record's id, as JSON.
            truth: kcal.
            prediction: `Identity.reference` of the request that asked for the prediction, where it was traced.
        """
        body = f'{{"id":{id_json},"Calories":{truth!r}}}'.encode()
        answer = await self._post("/feedback", id_json, body, prediction)
        if answer.cause is Cause.OK and not is_status(answer.document, json.loads(id_json)):
            return answer._replace(cause=Cause.BAD_ANSWER)
        return answer

    async def _post(
        self, path: str, id_json: str, body: bytes, about: str | None = None, patience: float | None = None
    ) -> Answer:
        deadline = anyio.move_on_after(patience or self._patience)
        call = Call(path, self._url + path, body, self._identity(id_json), deadline, linked_by(about))
        answer = await self._delivered(call)
        if call.no_connection and not self._is_told:
            print(f"streamsim: {call.no_connection}", file=sys.stderr)
            self._is_told = True
        if self._hint and answer.status in UNAUTHORIZED:
            print(f"streamsim: the service answered {answer.status}: {self._hint}", file=sys.stderr)
            self._hint = ""
        return answer._replace(trace=call.identity) if call.identity.traced else answer

    async def _delivered(self, call: Call) -> Answer:
        sessions = self._sessions.traced if call.identity.traced else self._sessions.plain
        with call.scope:
            answer = await self._sent(sessions.pooled, call)
            if answer.cause is Cause.CLOSED and call.on_idle_connection:
                # A connection that the service closes just as it is used again says nothing about the service.
                self.resent_to[call.path] += 1
                call.resends, call.answer, call.failed_in_span = 1, None, False
                call.identity = call.identity._replace(span_id=self._new_span_id())
                answer = await self._sent(sessions.fresh, call)
            return answer
        return Answer(Cause.TIMEOUT)

    async def _sent(self, session: aiohttp.ClientSession, call: Call) -> Answer:
        with self._tracing.request(call):
            call.answer = await _try(session, call, self._tracing.headers(call.identity))
        return call.answer

    def _identity(self, id_json: str) -> Identity:
        traced = is_traced(id_json, self._tracing.share)
        return Identity(self._random.getrandbits(128) or 1, self._new_span_id(), traced)

    def _new_span_id(self) -> int:
        return self._random.getrandbits(64) or 1  # an id of zeros is not valid


class _Pair(NamedTuple):
    """Sessions that keep their connections, and that open one for each request."""

    pooled: aiohttp.ClientSession
    fresh: aiohttp.ClientSession


class _Sessions(NamedTuple):
    """Both send on the same connections."""

    plain: _Pair
    traced: _Pair


@asynccontextmanager
async def open_client(
    url: str, patience: float, tracing: CallTracing | None = None, token: str | None = None
) -> AsyncIterator[Client]:
    """Open a client for the service at `url`; a request without a whole answer after `patience` seconds is given up.

    The first time that there is no connection, a line on stderr says why; the first time that the service refuses the
    token, or the lack of one, what to do.
    """
    tracing = tracing or ContextOnly()
    url, authorization = without_credentials(url)
    if token is not None:
        authorization = f"Bearer {token}"
    headers = {} if authorization is None else {"Authorization": authorization}
    # Not aiohttp's own, which is made where it is imported: before the variables of all clients are alike.
    trusted = ssl.create_default_context() if urlsplit(url).scheme == "https" else True
    async with AsyncExitStack() as stack:
        # A pool that makes requests wait for a free connection would close the open loop: no limit.
        pool, unpooled = (aiohttp.TCPConnector(limit=0, force_close=each, ssl=trusted) for each in (False, True))

        async def pair() -> _Pair:
            return _Pair(*[await stack.enter_async_context(_session(headers, each)) for each in (pool, unpooled)])

        for each in (pool, unpooled):
            stack.push_async_callback(each.close)
        plain = await pair()
        with tracing.instrumented():
            sessions = _Sessions(plain, await pair())
        yield Client(sessions, url, patience, tracing, NO_TOKEN if token is None else WRONG_TOKEN)


def _session(headers: Mapping[str, str], connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return aiohttp.ClientSession(
        headers=headers,
        connector=connector,
        connector_owner=False,
        trace_configs=[trace],
        # `_delivered` sets one deadline over both attempts.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.on_idle_connection = True


async def _try(session: aiohttp.ClientSession, call: Call, context: Mapping[str, str]) -> Answer:
    try:
        return await _exchange(session, call, context)
    except (aiohttp.ClientError, OSError, UnicodeError) as error:
        cause = cause_of_error(error)
        if cause is Cause.REFUSED:
            call.no_connection = f"{error or type(error).__name__}"
        return Answer(cause)


def cause_of_error(error: BaseException) -> Cause:
    """Name what aiohttp raises."""
    if isinstance(error, aiohttp.ClientConnectorError):
        exhausted = error.os_error.errno in {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL}
        return Cause.NOT_SENT if exhausted else Cause.REFUSED
    if isinstance(error, UnicodeError):  # no resolver can ask for such a name
        return Cause.REFUSED
    if isinstance(error, aiohttp.ClientResponseError):  # what came back is not HTTP
        return Cause.BAD_ANSWER
    return Cause.CLOSED


async def _exchange(session: aiohttp.ClientSession, call: Call, context: Mapping[str, str]) -> Answer:
    """One request and its whole answer; raises what aiohttp raises when the connection fails."""
    headers = {"Content-Type": "application/json", **context}
    async with session.post(
        call.url, data=call.body, headers=headers, allow_redirects=False, trace_request_ctx=call
    ) as response:
        call.on_idle_connection = False
        document = document_of(await _read(response))
        if response.status == 200:
            return Answer(Cause.BAD_ANSWER if document is None else Cause.OK, 200, document)
        retry_after = seconds_of(response.headers.get("Retry-After", ""))
        return Answer(cause_of(response.status), response.status, document, retry_after)


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """Read the body, or give it up as None beyond the bound."""
    content = b""
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            response.close()
            return None
    return content

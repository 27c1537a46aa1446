"""The HTTP side: sends one record or one truth, and names what became of it. No outcome raises.

The service's documented contract is all that is known here: POST /predict and POST /feedback, both idempotent by id.
"""

import errno
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final, NamedTuple, Protocol

import aiohttp
import anyio

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
from streamsim.environ import TOKEN, TOKEN_FILE
from streamsim.rows import Record

MAX_ANSWER_BYTES: Final = 64 * 1024
UNAUTHORIZED: Final = (401, 403)
NO_TOKEN: Final = f"it asks for a token; set {TOKEN}, or {TOKEN_FILE} to a file that holds it"
WRONG_TOKEN: Final = f"it does not take the token of {TOKEN} (or {TOKEN_FILE})"


class Call(NamedTuple):
    """A request that has ended: where to, which, how; begun and ended in nanoseconds since the epoch."""

    url: str
    path: str
    identity: Identity
    answer: Answer
    resent: bool
    began: int
    ended: int
    linked: tuple[int, int] | None = None
    """Trace and span id of the request that this one is about."""


class Calls(Protocol):
    """Makes spans of requests."""

    def instrumented(self) -> AbstractContextManager[None]:
        """Instrument the sessions that are made in this context."""

    def headers(self, identity: Identity) -> dict[str, str]:
        """Return what tells the service of a request that is not traced; nothing for one that is."""

    def sending(
        self, identity: Identity, linked: tuple[int, int] | None, *, resent: bool
    ) -> AbstractContextManager[None]:
        """Give the span of a request that is sent in this context its identity and its link."""

    def note(self, call: Call) -> None:
        """Take down one; must not wait and must not raise."""


@dataclass(slots=True)
class _Request:
    url: str
    body: bytes
    headers: dict[str, str]
    identity: Identity
    linked: tuple[int, int] | None
    on_idle_connection: bool = False
    """Sent on a connection that had served before, and not a byte has come back."""
    resent: bool = False


class Client:
    """Sends to one service. Use `open_client`.

    Counts in `resent_to`, by path, the requests that met a connection the service had closed while it was idle.
    """

    def __init__(self, sessions: "_Sessions", url: str, patience: float, calls: Calls | None, hint: str = "") -> None:
        self._sessions = sessions
        self._url = url.rstrip("/")
        self._patience = patience
        self._calls = calls
        self._hint = hint
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
        identity = self._identity(id_json)
        told = {"traceparent": identity.traceparent} if self._calls is None else self._calls.headers(identity)
        request = _Request(
            self._url + path, body, {"Content-Type": "application/json", **told}, identity, linked_by(about)
        )
        began = time.time_ns()
        answer = await self._delivered(path, request, patience or self._patience)
        if self._hint and answer.status in UNAUTHORIZED:
            print(f"streamsim: the service answered {answer.status}: {self._hint}", file=sys.stderr)
            self._hint = ""
        if identity.traced:
            answer = answer._replace(trace=identity)
        if self._calls is not None:
            ended = max(began, time.time_ns())
            self._calls.note(Call(request.url, path, identity, answer, request.resent, began, ended, request.linked))
        return answer

    async def _delivered(self, path: str, request: _Request, patience: float) -> Answer:
        with anyio.move_on_after(patience):
            answer = await self._sent(self._sessions.pooled, request)
            if answer.cause is Cause.CLOSED and request.on_idle_connection:
                # A connection that the service closes just as it is used again says nothing about the service.
                self.resent_to[path] += 1
                request.resent = True
                answer = await self._sent(self._sessions.fresh, request)
            return answer
        return Answer(Cause.TIMEOUT)

    async def _sent(self, sessions: "_Pair", request: _Request) -> Answer:
        if self._calls is None or not request.identity.traced:
            return await _try(sessions.plain, request)
        with self._calls.sending(request.identity, request.linked, resent=request.resent):
            return await _try(sessions.traced, request)

    def _identity(self, id_json: str) -> Identity:
        """`| 1` because an id of zeros is not valid."""
        return Identity(self._random.getrandbits(128) | 1, self._random.getrandbits(64) | 1, is_traced(id_json))


class _Pair(NamedTuple):
    """Two sessions on the same connections: what `traced` sends has spans, where there are any."""

    plain: aiohttp.ClientSession
    traced: aiohttp.ClientSession


class _Sessions(NamedTuple):
    pooled: _Pair
    fresh: _Pair


@asynccontextmanager
async def open_client(
    url: str, patience: float, calls: Calls | None = None, token: str | None = None
) -> AsyncIterator[Client]:
    """Open a client for the service at `url`; a request without a whole answer after `patience` seconds is given up.

    The first time that the service refuses the token, or the lack of one, a line on stderr says what to do.
    """
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with AsyncExitStack() as stack:
        pairs = [
            await _pair(stack, headers, calls, force_close, [] if force_close else [trace])
            for force_close in (False, True)
        ]
        yield Client(_Sessions(*pairs), url, patience, calls, NO_TOKEN if token is None else WRONG_TOKEN)


async def _pair(
    stack: AsyncExitStack,
    headers: Mapping[str, str],
    calls: Calls | None,
    force_close: bool,
    traces: list[aiohttp.TraceConfig],
) -> _Pair:
    # A pool that makes requests wait for a free connection would close the open loop: no limit.
    connector = aiohttp.TCPConnector(limit=0, force_close=force_close)
    plain = await stack.enter_async_context(_session(headers, connector, traces, owner=True))
    if calls is None:
        return _Pair(plain, plain)
    with calls.instrumented():
        traced = await stack.enter_async_context(_session(headers, connector, traces, owner=False))
    return _Pair(plain, traced)


def _session(
    headers: Mapping[str, str],
    connector: aiohttp.TCPConnector,
    traces: list[aiohttp.TraceConfig],
    *,
    owner: bool,
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers=headers,
        connector=connector,
        connector_owner=owner,
        trace_configs=list(traces),
        # `_post` sets one deadline over both attempts.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.on_idle_connection = True


async def _try(session: aiohttp.ClientSession, request: _Request) -> Answer:
    try:
        return await _exchange(session, request)
    except aiohttp.ClientConnectorError as error:
        exhausted = error.os_error.errno in {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL}
        return Answer(Cause.NOT_SENT if exhausted else Cause.REFUSED)
    except UnicodeError:  # no resolver can ask for such a name
        return Answer(Cause.REFUSED)
    except aiohttp.ClientResponseError:  # what came back is not HTTP
        return Answer(Cause.BAD_ANSWER)
    except (aiohttp.ClientError, OSError):
        return Answer(Cause.CLOSED)


async def _exchange(session: aiohttp.ClientSession, request: _Request) -> Answer:
    """One request and its whole answer; raises what aiohttp raises when the connection fails."""
    async with session.post(
        request.url, data=request.body, headers=request.headers, allow_redirects=False, trace_request_ctx=request
    ) as response:
        request.on_idle_connection = False
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

"""uvicorn's HTTP protocol, with a bound on everything that a client can send, hold back, or leave unread.

It also counts what waits, sends answers together, and refuses what comes when there is no room.
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from calsvc.admission import Admission, Doorman
from calsvc.connections import Connections
from calsvc.cycle import cycle_of
from calsvc.errors import CalsvcError, NotHttp, Overloaded, TooSlow
from calsvc.heads import MAX_FIELDS, add_target, demand_bounds, demand_end, demand_no_body, demand_version
from calsvc.outbox import Held, Outbox
from calsvc.problems import final_answer
from calsvc.stay import SLOWEST, Stay

PATIENCE: Final = 0.2
"""Seconds for which a connection that was refused is not read: who comes back at once waits, and costs nothing."""
LINGER_BYTES: Final = 4 * 2**20
"""Bytes of which the same holds: a body that is too long by far still meets its answer, one without end does not."""
PIECE: Final = 1024
"""Bytes that are parsed at once: more than a record has, and so few that not many requests fit in."""
PIPELINE: Final = 16
"""Requests behind the one that is answered, beyond which no more are parsed."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._doorman: Doorman = self.app_state["doorman"]
        self._admission: Admission = self._doorman.admission
        self._connections: Connections = self.app_state["connections"]
        self.stay = Stay(self._connections.now)
        self._waiting = 0
        """Requests that are here as a whole and not answered."""
        self._in_head = False
        self._fed = 0
        """Bytes of the request of which a part is here, up to the last piece."""
        self._hosts = 0
        self._rest = memoryview(b"")
        """What has been read and not parsed."""
        self._failure: CalsvcError | None = None
        """Why nothing more is parsed, as soon as what waits is answered."""
        self._ignored = 0
        self._answering: RequestResponseCycle | None = None

    # --- a connection's life ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with a transport that writes at the end of a round of the event loop."""
        outbox: Outbox = self.app_state["outbox"]
        super().connection_made(Held(transport, outbox, self.loop))  # type: ignore[arg-type]
        if self.server is not None and self.server[1] in self.app_state["ports"]:
            self.app = self.app_state["ports"][self.server[1]]
        if not self._connections.enter(self):
            self._fail(Overloaded(f"{self._connections.limit} connections are being worked on already"), "refused")

    def connection_lost(self, exc: Exception | None) -> None:
        """Count out what nobody waits for any more."""
        self._count(-self._waiting)
        self._waiting = 0
        self._connections.leave(self, self.stay.reason)
        if self._answering is not None:  # uvicorn tells the last one, which may be another that waits behind it
            self._answering.disconnected = not self._answering.response_complete
            self._answering.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Part, since the process goes: behind what has come of a request, where something has."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif self.stay.begun is None:
            self._part()

    @property
    def busy(self) -> bool:
        """Whether a whole request is being worked on; one whose client does not read is not."""
        return self._waiting > 0 and self.stay.unread is None

    def drop(self, reason: str) -> None:
        """Close without a word, at once."""
        self._connections.leave(self, reason)
        self.transport.abort()

    def look_after(self, now: float) -> None:
        """Close this connection where its stay is over."""
        stay = self.stay
        if stay.parting is None and self.transport.is_closing():
            stay.parting = now
        verdict = stay.over(now, self._waiting)
        if verdict in {"unread", "parted"}:
            self.drop("unread" if verdict == "unread" else stay.reason)
        elif verdict == "slow":
            self._fail(TooSlow(f"the request was not whole within {SLOWEST:g} s"), "slow")
        elif verdict == "idle":
            stay.reason = "idle"
            self._part()

    def pause_writing(self) -> None:
        """Let a client that does not read take nobody's place, and give it some time to read on."""
        self._count(-self._waiting)
        self.stay.unread = self._connections.now
        super().pause_writing()

    def resume_writing(self) -> None:
        """Be content: it reads."""
        self.stay.unread = None
        self._count(self._waiting)
        super().resume_writing()

    def _count(self, requests: int) -> None:
        if self.stay.unread is None:
            self._admission.left(-requests)

    # --- bytes --------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Refuse a request, or parse it, piece by piece where it is long."""
        if self._failure is not None or self.stay.parting is not None:
            self._ignore(data)
        elif self.stay.begun is None and not self._waiting and self._doorman.refuses(data):
            self.transport.write(self._doorman.answer)
            self.flow.pause_reading()
            self.loop.call_later(PATIENCE, self._read_on)
        elif self._rest or len(data) > PIECE:
            self._rest = memoryview(bytes(self._rest) + data)
            self._parse_rest()
        else:
            self._parse(data)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _ignore(self, data: bytes) -> None:
        self._ignored += len(data)
        if self._ignored > LINGER_BYTES:
            self.drop(self.stay.reason)

    def _parse_rest(self) -> None:
        """Parse what has been read, until enough requests wait."""
        while self._rest and len(self.pipeline) < PIPELINE:
            piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
            self._parse(piece)
        if self._rest or self.pipeline:
            self.flow.pause_reading()

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # to no other protocol: the request was one like any other
            self._parse(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._fail(cause if isinstance(cause, CalsvcError) else NotHttp(f"the bytes are no HTTP/1.1: {error}"))
        if self.stay.begun is not None:
            self._fed += len(data)
            self._demand_end()

    def _demand_end(self) -> None:
        """Fail where the part of a request that is here is more than the whole may be."""
        try:
            demand_end(self._fed - PIECE, self.url if self._in_head else None)
        except CalsvcError as error:
            self._fail(error)

    # --- the parser's findings ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note that what comes next is the rest of a request."""
        self.stay.begun = self._connections.now
        self._in_head = True
        self._fed = self._hosts = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin to answer, or take a place behind those who are being answered."""
        self._in_head = False
        parser, scope = self.parser, self.scope
        version = parser.get_http_version()
        if self._fed or len(self.headers) > MAX_FIELDS:  # what came in one piece is short enough
            demand_bounds(self.url, self.headers)
        demand_version(version, self._hosts)
        if parser.should_upgrade():
            demand_no_body(self.headers)
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode("ascii")
        add_target(scope, self.url)  # type: ignore[arg-type]  # uvicorn's own type of a scope
        before = self.cycle
        keep_alive = version == "1.1" and parser.should_keep_alive() and not self._connections.parting
        self.cycle = cycle_of(self, keep_alive)
        if before is None or before.response_complete:
            self._answering = self.cycle
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body to who answers, and stop reading where it is not taken."""
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Count a request: the whole of it is here."""
        self.stay.begun = None
        cycle = self.cycle
        if not cycle.response_complete:  # a request can be answered before the whole of it is here
            self._waiting += 1
            if self.stay.unread is None:
                self._admission.arrived()
            cycle.more_body = False
            cycle.message_event.set()

    # --- answers ------------------------------------------------------------------------------------------------------

    def on_response_complete(self, keep_alive: bool = True) -> None:
        """Count a request out, and turn to the next, or part."""
        self.server_state.total_requests += 1
        if self._waiting:
            self._waiting -= 1
            if self.stay.unread is None:
                self._admission.left()
        self.stay.answered(self._connections.now)
        if self.transport.is_closing():
            return
        if not keep_alive:
            self._part()
        elif self.pipeline:
            self._answering, app = self.pipeline.pop()
            self._start_asgi_task(self._answering, app)
            self._parse_rest()
        elif self._failure is not None:
            self._answer_failure(self._failure)
        else:
            self.flow.resume_reading()

    def _fail(self, failure: CalsvcError, reason: str = "malformed") -> None:
        """Parse nothing more; say why when everything before is answered."""
        if self._failure is not None:
            return
        self._failure, self.stay.reason, self._rest = failure, reason, memoryview(b"")
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
        if self._waiting:
            self.flow.pause_reading()
        else:
            self._answer_failure(failure)

    def _answer_failure(self, failure: CalsvcError) -> None:
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:  # its body was under way
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.drop(self.stay.reason)
                return
        self.transport.write(final_answer(failure))
        self._linger()

    def _part(self) -> None:
        """Close behind the last answer; who is still sending shall be able to read it."""
        if self.stay.begun is not None:
            self.stay.reason = "unfinished"
            self._linger()
        else:
            self.stay.parting = self._connections.now
            self.transport.close()

    def _linger(self) -> None:
        """Say that nothing more comes, and take no notice of what comes from the other side, for a while."""
        self._count(-self._waiting)
        self._waiting = 0
        self.pipeline.clear()
        self._rest = memoryview(b"")
        self.stay.begun, self.stay.parting = None, self._connections.now
        self.transport.write_eof()
        self.flow.resume_reading()

"""One request and its answer: uvicorn's cycle, which writes a head in one go, and hangs up on who has not finished."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

_NO_BODY: Final = frozenset({204, 304})
Headers = list[tuple[bytes, bytes]]


class Cycle(RequestResponseCycle):
    """As uvicorn's, in fewer steps: what it looks for in each header is looked for once in the whole head."""

    async def send(self, message: Any) -> None:
        """Write the head of the answer, then its body."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._begin(message["status"], message["headers"])
        elif not self.response_complete:
            self._go_on(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError("an answer goes on behind its end")

    async def receive(self) -> Any:
        """Return what has come of the body. Unlike uvicorn's, this reads on only where some of it is missing."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            if self.more_body:
                self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def _begin(self, status: int, headers: Headers) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.more_body:
            self.keep_alive = False  # the rest of its request would be taken for the next one
        lines, length = [STATUS_LINE[status]], None
        for name, value in (*self.default_headers, *headers):
            if name == b"content-length":
                length = int(value)
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if length is None and self.scope["method"] != "HEAD" and status not in _NO_BODY:
            self.chunked_encoding = self.scope["http_version"] == "1.1"  # before 1.1 an answer ends with its connection
            if self.chunked_encoding:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False
        self.expected_content_length = length or 0
        head = b"".join(lines)
        if head.count(b"\n") != len(lines):
            raise RuntimeError("a header has a line break")
        self.transport.write(head + b"\r\n")

    def _go_on(self, body: bytes, more_body: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(chunk if more_body else chunk + b"0\r\n\r\n")
        else:
            if self.chunked_encoding is None:
                self.expected_content_length -= len(body)
            self.transport.write(body)
        if more_body:
            return
        if self.expected_content_length != 0:
            raise RuntimeError("an answer is not as long as its head says")
        self.response_complete = True
        self.message_event.set()
        self.on_response(self.keep_alive)


def cycle_of(connection: HttpToolsProtocol, keep_alive: bool) -> Cycle:
    """Return the cycle of the request whose head a connection has just read."""
    return Cycle(
        scope=connection.scope,
        transport=connection.transport,
        flow=connection.flow,
        logger=connection.logger,
        access_logger=connection.access_logger,
        access_log=False,
        default_headers=connection.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=connection.expect_100_continue,
        keep_alive=keep_alive,
        on_response=connection.on_response_complete,
    )

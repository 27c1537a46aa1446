"""uvicorn's HTTP protocol, which also counts what waits, sends answers together, and drops who does not read."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from calsvc.admission import Admission, Doorman
from calsvc.outbox import Held, Outbox

PATIENCE: Final = 0.2
"""Seconds for which a connection that was refused is not read: who comes back at once waits, and costs nothing."""
UNREAD: Final = 30.0
"""Seconds after which a client that takes nothing of what waits for it is dropped, and what was held for it is free."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._doorman: Doorman = self.app_state["doorman"]
        self._admission: Admission = self._doorman.admission
        self._waiting = 0
        self._within_request = False
        self._drop: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, with a transport that writes at the end of a round of the event loop."""
        outbox: Outbox = self.app_state["outbox"]
        super().connection_made(Held(transport, outbox, self.loop))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Refuse a request, or parse it."""
        if self._within_request or self._waiting or not self._doorman.refuses(data):
            super().data_received(data)
            return
        self.transport.write(self._doorman.answer)
        self.flow.pause_reading()
        self.loop.call_later(PATIENCE, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def on_message_begin(self) -> None:
        """Note that what comes next is the rest of a request."""
        self._within_request = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Count a request: the whole of it is here."""
        self._within_request = False
        self._waiting += 1
        self._admission.arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Count a request out."""
        if self._waiting:  # a request can be answered before the whole of it is here
            self._waiting -= 1
            self._admission.left()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count out what nobody waits for any more."""
        self._admission.left(self._waiting)
        self._waiting = 0
        self._take_back()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client that does not read some time to read on."""
        self._drop = self.loop.call_later(UNREAD, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Be content: it reads."""
        self._take_back()
        super().resume_writing()

    def _take_back(self) -> None:
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None

"""Answers that leave together: what is written in one round of the event loop is sent at its end."""

import asyncio
from typing import Any


class Outbox:
    """What the connections of one event loop have written in this round of it; sent when its requests are worked on.

    Head and body of an answer leave in one system call and one packet instead of two. And the answers to requests that
    came together leave together, so that a client that sleeps in between is woken once: waking it is this side's work.
    """

    def __init__(self) -> None:
        self._waiting: list[Held] = []

    def add(self, held: "Held", loop: asyncio.AbstractEventLoop) -> None:
        """Let a transport flush at the end of this round."""
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append(held)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for held in waiting:
            held.flush()


class Held:
    """A transport that writes when its outbox says so, or when it closes."""

    def __init__(self, transport: asyncio.Transport, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._outbox = outbox
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this round."""
        if not self._parts:
            self._outbox.add(self, self._loop)
        self._parts.append(data)

    def flush(self) -> None:
        """Send what is held."""
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            if not self._transport.is_closing():
                self._transport.write(data)

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def write_eof(self) -> None:
        """Send what is held, then nothing more."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def abort(self) -> None:
        """Hand over what is held, as much as the kernel takes, and close."""
        self.flush()
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

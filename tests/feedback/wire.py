"""A wire to a server that can be cut: what goes one way, what comes back, or both.

`python -m tests.feedback.wire PORT URL` is one in a process of its own, to be stopped and killed.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Wire:
    """A TCP relay on loopback."""

    def __init__(self, to: str) -> None:
        parts = urlsplit(to)
        self._to = parts.hostname, parts.port
        self._connections: set[asyncio.StreamWriter] = set()
        self.answers = True
        """Whether what the server says arrives. Where not, it still hears all."""
        self.requests = True
        """Whether the server hears anything."""
        self.url = ""

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        with suppress(OSError):
            from_server, to_server = await asyncio.open_connection(*self._to)
            self._connections |= {writer, to_server}
            await asyncio.gather(
                self._carry(reader, to_server, "requests"), self._carry(from_server, writer, "answers")
            )

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if getattr(self, way):
                    writer.write(data)
                    await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Break all connections."""
        for each in self._connections:
            each.close()
        self._connections.clear()


@asynccontextmanager
async def wire(to: str) -> AsyncIterator[Wire]:
    """Lay a wire to the server at a URL."""
    laid = Wire(to)
    async with await asyncio.start_server(laid.relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        laid.url = f"redis://127.0.0.1:{port}/0"
        try:
            yield laid
        finally:
            laid.cut()


async def main(port: int, to: str) -> None:
    """Be a wire until killed."""
    async with await asyncio.start_server(Wire(to).relay, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))

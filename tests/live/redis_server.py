"""A real Redis or Valkey on loopback, that tests fill, stop, kill and start again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.live.program import NO_MORE, Program
from tests.needs import needed
from tests.service_process import free_port

DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec")
"""What docs/store.md asks for: it comes back with all that it had confirmed."""
FORGETFUL = ("--appendonly", "no")
"""It comes back empty."""


class RedisServer:
    """A server with its data in `folder`, the same port whenever it is started."""

    def __init__(self, folder: Path, options: tuple[str, ...] = DURABLE, environ: Mapping[str, str] = NO_MORE) -> None:
        port = free_port()
        folder.mkdir(exist_ok=True)
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client: Any = redis.Redis(port=port, socket_timeout=5)
        """To look into it."""
        command = [needed("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--dir", str(folder), "--save", "", *options]
        program = Program(command, self._answers, folder / "redis.log", environ)
        self.start, self.signal, self.end, self.wait_for = program.start, program.signal, program.end, program.wait_for
        self._program = program

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._program.pid

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


@contextmanager
def running_redis(folder: Path, options: tuple[str, ...] = DURABLE) -> Iterator[RedisServer]:
    """Run one."""
    with running_server(RedisServer(folder, options)) as server:
        yield server


@contextmanager
def running_server(server: RedisServer) -> Iterator[RedisServer]:
    """Start a server, and end it whatever has become of it."""
    try:
        server.start()
        yield server
    finally:
        server.end()
        server.client.close()

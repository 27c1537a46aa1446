"""Crowds of idle or slow connections to the proxy of a service, and what becomes of requests meanwhile."""

import asyncio
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

from streamsim.compare import total
from tests.chaos.outcome import Counts, Impossible
from tests.chaos.scene import RATE, Scene, grown, metrics
from tests.live.fleet import Proxy, running
from tests.live.program import Program

MANY: Final = 10_000
FEW_FILES: Final = 256
OPEN: Final = "process_open_fds"
CONNECTIONS: Final = "haproxy_process_current_connections"


@contextmanager
def crowd(scene: Scene, url: str, number: int, kind: str) -> Iterator[Program]:
    """Hold connections from a process of its own."""
    command = [sys.executable, "-m", "tests.chaos.crowds", url, str(number), kind]
    told = scene.folder / f"{kind}.log"
    program = Program(command, lambda: told.exists() and "all are there" in told.read_text(), told)
    try:
        program.start()
        yield program
    finally:
        program.end()


def idle(scene: Scene) -> Counts:
    """Ten thousand connections that send nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * MANY:
        raise Impossible(f"so many connections need {2 * MANY} open files, this machine allows {hard}")
    return _with_crowd(scene, MANY, "idle")


def slow(scene: Scene) -> Counts:
    """A thousand that send a byte of their request each second."""
    return _with_crowd(scene, 1000, "slow")


def half(scene: Scene) -> Counts:
    """A thousand that send a head, and never the body."""
    return _with_crowd(scene, 1000, "half")


def few_files(scene: Scene) -> Counts:
    """Allow the service 256 open files, and let a thousand connections come."""
    return _with_crowd(scene, 1000, "idle", "prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}")


def _with_crowd(scene: Scene, number: int, kind: str, *prefix: str) -> Counts:
    with (
        scene.service(*prefix) as service,
        running(Proxy(scene.folder, [service.url])) as proxy,
        scene.load(proxy.url, [service], 16) as load,
    ):
        load.after(2 * RATE)
        before = metrics(service)
        with crowd(scene, proxy.url, number, kind):
            load.after(10 * RATE)
            during, connections = metrics(service), total(proxy.metrics(), CONNECTIONS)
        scene.remark(
            f"meanwhile {connections or 0:,.0f} connections at the proxy, "
            f"{total(during, OPEN) or 0:.0f} files open in the service, {grown(before, during)}"
        )
    return load.counts()


# --- the crowd itself, in a process of its own ------------------------------------------------------------------------

HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n"
SOURCES: Final = 4
"""Addresses of the loopback interface that they come from: one has not enough ports for all."""
AT_ONCE: Final = 200
PAUSE: Final = 1.0
"""Seconds between two bytes, and until one that was sent away comes again."""


class Member:
    """One connection, made again whenever it ends."""

    def __init__(self, address: tuple[str, int], number: int, kind: str) -> None:
        self._address = address
        self._source = (f"127.0.0.{2 + number % SOURCES}", 0)
        self._kind = kind
        self.came = asyncio.Event()

    async def stay(self, door: asyncio.Semaphore) -> None:
        """Be there until killed."""
        while True:
            with suppress(OSError):
                async with door:
                    try:
                        reader, writer = await asyncio.open_connection(*self._address, local_addr=self._source)
                    finally:
                        self.came.set()  # also when the proxy has closed it at once: too many of this address
                await self._do(reader, writer)
                writer.close()
            await asyncio.sleep(PAUSE)

    async def _do(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what this kind does until the server has had enough."""
        if self._kind == "half":
            writer.write(HEAD)
        rest = iter(HEAD * 1000) if self._kind == "slow" else iter(b"")
        end = asyncio.create_task(reader.read())
        while not end.done():
            if (byte := next(rest, None)) is not None:
                writer.write(bytes([byte]))
            await asyncio.wait([end], timeout=PAUSE if self._kind == "slow" else None)
        await end


async def hold(address: tuple[str, int], number: int, kind: str) -> None:
    """Hold so many connections until killed; say when each of them has been there once."""
    members, door = [Member(address, each, kind) for each in range(number)], asyncio.Semaphore(AT_ONCE)
    tasks = [asyncio.create_task(each.stay(door)) for each in members]
    for each in members:
        await each.came.wait()
    print("all are there", flush=True)
    await asyncio.gather(*tasks)


def main(url: str, number: int, kind: str) -> None:
    """Hold connections until killed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parts = urlsplit(url)
    asyncio.run(hold((parts.hostname or "", parts.port or 80), number, kind))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

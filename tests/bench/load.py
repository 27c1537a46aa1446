"""Closed-loop load: a few keep-alive connections, each asking again as soon as it is answered.

`python -m tests.bench.load` reads a `Plan` (MessagePack) from stdin and prints a `Window` (JSON). Anything but a 200
makes the measurement void: the process says what was answered, and ends with 1. One request costs this process some
15 us, nearly all of it in the kernel, so that a Python server on another core is busy long before it is.
"""

import asyncio
import gc
import itertools
import re
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import uvloop
from msgspec import Struct

from tests.bench.processes import cpu_seconds
from tests.bench.workouts import FIRST_ID

PATIENCE: Final = 10.0
"""Seconds that the first connections, and the last answers, may take."""
CONNECTIONS: Final = 16
IDS_PER_TURN: Final = 10_000_000
LONGEST_HEAD: Final = 65536
_OK: Final = re.compile(rb"HTTP/1\.[01] 200 ")
_OK_OR_REFUSED: Final = re.compile(rb"HTTP/1\.[01] (200|503) ")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_LENGTH_OF_UVICORN: Final = b"\r\ncontent-length: "


class Plan(Struct, kw_only=True):
    """What to send where. A request is a template with an id of ten digits between its two halves."""

    port: int
    pid: int
    """whose CPU time is read at the edges of the window"""
    templates: list[tuple[bytes, bytes]]
    connections: int = CONNECTIONS
    warmup: float = 0.5
    seconds: float = 2.0
    turn: int = 0
    """which run of several against one server: no two use the same ids"""
    different_ids: int = 0
    """how many ids are used in turn; 0: none twice"""
    refusable: bool = False
    """whether a 503 is an answer too; it is asked again at once"""
    limit: int = 0
    """requests after which the run ends, where its time has not come yet; 0: none"""

    @property
    def first_id(self) -> int:
        """The first id of this run."""
        return FIRST_ID + self.turn * IDS_PER_TURN


class Window(Struct, kw_only=True):
    """What happened between two moments: answers of 200, and CPU seconds of both sides (None: not told here)."""

    seconds: float
    requests: int
    total: int
    """answers of the whole run, before and after the window too"""
    server_cpu: float | None
    generator_cpu: float
    refused: int = 0
    """answers of 503 in the window, where the plan allows them; not among the requests"""


class Void(Exception):
    """The measurement says nothing: the server did not answer every request with 200."""


def requests(plan: Plan) -> Iterator[bytes]:
    """Yield requests, without end where the plan has no limit."""
    ids = itertools.count(plan.first_id)
    if plan.different_ids:
        ids = itertools.cycle(range(plan.first_id, plan.first_id + plan.different_ids))
    halves = zip(ids, itertools.cycle(plan.templates))
    made = (b"%b%d%b" % (before, n, after) for n, (before, after) in halves)
    return itertools.islice(made, plan.limit) if plan.limit else made


def missing(data: bytes, accepted: re.Pattern[bytes] = _OK) -> int | None:
    """Return how many bytes the answer that begins with `data` lacks; None while its head is not complete.

    Raises:
        Void: it is not a 200 (or what else is accepted), or does not say how long it is.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 and len(data) < LONGEST_HEAD:
        return None
    if end < 0 or not accepted.match(data):
        raise Void(f"answered: {data[:1000].decode(errors='replace')}")
    at = data.find(_LENGTH_OF_UVICORN, 0, end + 2)
    if at >= 0:
        at += len(_LENGTH_OF_UVICORN)
        return int(data[at : data.find(b"\r", at)]) - (len(data) - end - 4)
    found = _LENGTH.search(data, 0, end + 2)
    if found is None:
        raise Void(f"no Content-Length: {data[:1000].decode(errors='replace')}")
    return int(found[1]) - (len(data) - end - 4)


class _Load:
    """What the connections of one run share."""

    def __init__(self, plan: Plan) -> None:
        self.requests = requests(plan)
        self.answered = 0
        self.refused = 0
        self.accepted = _OK_OR_REFUSED if plan.refusable else _OK
        self.running = True
        self.open = 0
        self.over = asyncio.get_running_loop().create_future()

    def void(self, reason: str) -> None:
        """End the run without a result."""
        if not self.over.done():
            self.over.set_exception(Void(reason))

    def closed(self) -> None:
        """Count a connection that has its last answer."""
        self.open -= 1
        if not self.open and not self.over.done():
            self.over.set_result(None)


class _Connection(asyncio.Protocol):
    """Sends the next request when the last one is answered."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._requests = load.requests
        self._missing = 0
        self._head = b""
        self._refused = False
        self._done = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Send the first request."""
        self._load.open += 1
        self._transport = transport
        self._write = transport.write
        self._write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        """Count the answer and send again, or wait for the rest of it."""
        if self._missing:
            self._missing -= len(data)
        else:
            try:
                lacking = missing(self._head + data, self._load.accepted)
            except Void as void:
                self._load.void(str(void))
                return
            if lacking is None:
                self._head += data
                return
            self._refused = not _OK.match(self._head + data)
            self._head, self._missing = b"", lacking
        if self._missing == 0:
            self._next()
        elif self._missing < 0:
            self._load.void(f"{-self._missing} bytes more than announced, the last of them: {data[-100:]!r}")

    def _next(self) -> None:
        load = self._load
        if self._refused:
            load.refused += 1
        else:
            load.answered += 1
        request = next(self._requests, None) if load.running else None
        if request is None:
            self._done = True
            self._transport.close()
            load.closed()
        else:
            self._write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Lose the run where the server hangs up."""
        if not self._done:
            self._load.void(f"the server closed a connection: {exc or 'without a word'}")


async def drive(plan: Plan) -> Window:
    """Load the server; return what happened after the warm-up.

    Raises:
        Void: see there.
    """
    loop = asyncio.get_running_loop()
    load = _Load(plan)
    async with asyncio.timeout(PATIENCE):
        for _ in range(plan.connections):
            await loop.create_connection(lambda: _Connection(load), "127.0.0.1", plan.port)
    await _pause(load, plan.warmup)
    start, refused = _reading(load.answered, plan.pid), load.refused
    await _pause(load, plan.seconds)
    window = _between(start, _reading(load.answered, plan.pid))
    window.refused = load.refused - refused
    load.running = False
    try:
        await asyncio.wait_for(load.over, PATIENCE)
    except TimeoutError:
        raise Void(f"{load.open} requests were not answered within {PATIENCE:g} s") from None
    if not window.requests:
        raise Void("no request was answered")
    window.total = load.answered
    return window


async def _pause(load: _Load, seconds: float) -> None:
    await asyncio.wait([load.over], timeout=seconds)
    if load.over.done():
        load.over.result()


class _Reading(NamedTuple):
    """The counters at one moment."""

    now: float
    answered: int
    server: float | None
    generator: float


def _reading(answered: int, pid: int) -> _Reading:
    return _Reading(time.perf_counter(), answered, cpu_seconds(pid), time.process_time())


def _between(start: _Reading, end: _Reading) -> Window:
    known = start.server is not None and end.server is not None
    return Window(
        seconds=end.now - start.now,
        requests=end.answered - start.answered,
        total=end.answered,
        server_cpu=end.server - start.server if known else None,
        generator_cpu=end.generator - start.generator,
    )


def main() -> int:
    """Run the plan on stdin."""
    plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Plan)
    gc.disable()  # nothing here makes cycles, and a collection would look like a slow answer
    try:
        window = uvloop.run(drive(plan))
    except (Void, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(window) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

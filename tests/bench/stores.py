"""What each kind of store costs a request, and what it takes of memory and disk."""

import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio
from msgspec import Struct

from calsvc.feedback.opening import create_store
from calsvc.feedback.quality import Series
from calsvc.feedback.records import Remembered
from calsvc.feedback.store import JoinStore, LateJoin
from calsvc.settings import Settings
from tests.bench import part
from tests.bench.figures import Spread, shown, spread, table
from tests.bench.load import CONNECTIONS, Plan, Void, Window
from tests.bench.measure import Figures, figures, in_turns, loaded_server, remarks
from tests.bench.processes import Cores, cpu_seconds, on_core, serving, two_cores
from tests.bench.rungs import UNSAMPLED, Rung, program
from tests.bench.workouts import FIRST_ID, rows, templates
from tests.live.redis_server import RedisServer, running_redis

SERVER: Final = ("redis-server", "valkey-server")
WAITING: Final = 100_000
CROWD: Final = 64
"""Predictions that are remembered at the same time."""
SERIES: Final = Series("20260101T000000Z-0123abcd", "champion")


class Size(Struct):
    """Bytes for a prediction that waits, bytes for a truth that is kept, and seconds to know them all at a start."""

    waiting: float
    settled: float | None = None
    restored: float | None = None


class Stores(Struct):
    """The result. `server_us`: CPU of the shared server for a request."""

    rounds: int
    seconds: float
    cores: Cores
    stores: list[Figures]
    server_us: Spread
    file: Size
    server: Size


def at_hand() -> bool:
    """Tell whether there is a server."""
    return any(map(shutil.which, SERVER))


def measure(options: part.Options) -> Stores:
    """Load the service with each store in every round; then fill each by itself.

    Raises:
        Void: a request was not answered with 200, or there is no server.
    """
    if not at_hand():
        raise Void("redis-server is missing: apt-get install redis-server")
    cores, model = two_cores(), Settings.from_env(os.environ).bundle_path
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        with on_core(cores.generator):
            redis = stack.enter_context(running_redis(folder / "redis"))
        addresses = {
            "memory://": "memory://",
            "sqlite://": f"sqlite:///{folder}/waiting.db",
            "redis://": redis.url,
        }
        windows, server_us = _windows(addresses, (redis, folder, model), options, cores)
        file, server = _sizes(folder, redis)
    return Stores(options.rounds, options.seconds, cores, figures(windows), spread(server_us), file, server)


def _windows(
    addresses: Mapping[str, str], around: tuple[RedisServer, Path, Path], options: part.Options, cores: Cores
) -> tuple[dict[str, list[Window]], list[float]]:
    redis, folder, model = around
    server_us: list[float] = []
    requests = templates(rows())
    with ExitStack() as stack:
        servers = {}
        for name, address in addresses.items():
            rung = Rung(name, ("calsvc",), {**UNSAMPLED, "CALSVC_STORE": address})
            servers[name] = stack.enter_context(serving(program(rung, 0, model), folder, cores.server))

        def run(name: str, turn: int) -> Window:
            server = servers[name]
            length = {"warmup": options.warmup, "seconds": options.seconds}
            plan = Plan(port=server.port, pid=server.pid, templates=requests, turn=turn, **length)
            before = cpu_seconds(redis.pid) or 0.0
            window = loaded_server(servers[name], plan, cores.generator)
            if name == "redis://":
                server_us.append(((cpu_seconds(redis.pid) or 0.0) - before) / window.total * 1e6)
            return window

        return in_turns(servers, options.rounds, run, part.say), server_us


def _sizes(folder: Path, redis: RedisServer) -> tuple[Size, Size]:
    """Let predictions wait in a file and at the server, and their truths come."""
    file = folder / "sizes.db"
    anyio.run(_fill, f"sqlite:///{file}", False)
    begun = time.monotonic()
    anyio.run(_fill, f"sqlite:///{file}", None)
    in_file = Size(file.stat().st_size / WAITING, restored=time.monotonic() - begun)
    redis.client.flushall()
    base = redis.client.info("memory")["used_memory"]

    def used() -> float:
        return float(redis.client.info("memory")["used_memory"] - base) / WAITING

    anyio.run(_fill, redis.url, False)
    waiting = used()
    anyio.run(_fill, redis.url, True)
    return in_file, Size(waiting, settled=used())


async def _fill(address: str, settle: bool | None) -> None:
    """Remember predictions, or settle them; None: only open the store, and close it."""
    store = create_store(Settings.from_env({"CALSVC_STORE": address, "CALSVC_STORE_BACKLOG": "1"}), time.monotonic)
    await store.open(time.monotonic())
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.run, _ignore)
            if settle is not None:
                async with anyio.create_task_group() as crowd:
                    for first in range(CROWD):
                        crowd.start_soon(_some, store, range(first, WAITING, CROWD), settle)
            tasks.cancel_scope.cancel()
    finally:
        await store.aclose()


async def _some(store: JoinStore, numbers: range, settle: bool) -> None:
    for number in numbers:
        now = time.monotonic()
        if settle:
            await store.join(FIRST_ID + number, 77.0, now)
        else:
            await store.remember(FIRST_ID + number, Remembered(100.0 + number / 7, now, SERIES))


def _ignore(_: LateJoin) -> None:
    """Charge nothing."""


def markdown(result: Stores) -> str:
    """Return the tables and what to know about them."""
    lines = [
        [
            each.name,
            shown(each.requests_per_second, ",.0f"),
            shown(each.share, ".0%"),
            shown(each.cpu_us, ".1f") if each.cpu_us else "",
            shown(result.server_us, ".1f") if each.name == "redis://" else "",
        ]
        for each in result.stores
    ]
    header = ["CALSVC_STORE", "predictions/s", "share", "CPU us a request", "CPU us of the server"]
    sizes: list[list[Any]] = [
        ["a prediction that waits, bytes", f"{result.file.waiting:.0f}", f"{result.server.waiting:.0f}"],
        ["a truth that is kept, bytes", "", f"{result.server.settled:.0f}"],
        [f"knowing {WAITING:,} at a start, seconds", f"{result.file.restored:.2f}", ""],
    ]
    note = (
        f"Medians of {result.rounds} interleaved rounds of {result.seconds:g} s (lowest..highest), {CONNECTIONS} "
        f"connections, metrics on, traces off. {result.cores} The shared server keeps an append-only file, and shares "
        "the generator's core."
    )
    parts = [table(header, lines), note, *remarks(result.stores), table(["", "file", "server"], sizes)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(part.main("stores", measure, markdown, Void))

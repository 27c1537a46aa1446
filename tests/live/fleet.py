"""Replicas that share a real server, behind a real proxy: each can be killed, stopped, and started again."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.live.program import Program
from tests.live.redis_server import RedisServer, running_redis
from tests.needed import needed
from tests.service_process import ROOT, free_port

PROXY = ROOT / "deploy" / "proxy" / "haproxy.cfg"


class Replica(Program):
    """One `python -m calsvc`, on the same port whenever it is started."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "calsvc"]
        super().__init__(
            command, f"{self.url}/readyz", folder / f"replica-{port}.log", {**environ, "CALSVC_PORT": str(port)}
        )


class Fleet(NamedTuple):
    """The replicas, those that are not started yet among them, and where their clients and they themselves go."""

    url: str
    replicas: Sequence[Replica]
    redis: RedisServer


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Start a program, and end it whatever has become of it."""
    try:
        program.start()
        yield program
    finally:
        program.end()


@contextmanager
def running_fleet(folder: Path, environ: Mapping[str, str], number: int, *, later: int = 0) -> Iterator[Fleet]:
    """Run so many replicas with a server and a proxy; `later` more are known to the proxy and not started."""
    with running_redis(folder / "redis") as redis, ExitStack() as stack:
        told = {"CALSVC_STORE": redis.url, "CALSVC_DRAIN_DELAY": "1", **environ}
        replicas = [Replica(folder, told) for _ in range(number + later)]
        for each in replicas:
            stack.callback(each.end)
        for each in replicas[:number]:
            each.start()
        url = stack.enter_context(proxy(folder, [each.url for each in replicas]))
        yield Fleet(url, replicas, redis)


@contextmanager
def proxy(folder: Path, urls: Sequence[str]) -> Iterator[str]:
    """Run the proxy of deploy/proxy in front of replicas; yields where it listens."""
    servers = [f"    server replica{number} {url.removeprefix('http://')}" for number, url in enumerate(urls)]
    (folder / "replicas.cfg").write_text("\n".join(["backend replicas from calsvc", *servers, ""]))
    address = f"127.0.0.1:{free_port()}"
    command = [needed("haproxy"), "-db", "-f", str(PROXY), "-f", str(folder / "replicas.cfg")]
    program = Program(command, f"http://{address}/readyz", folder / "proxy.log", {"CALSVC_PROXY_BIND": address})
    with running(program):
        yield f"http://{address}"

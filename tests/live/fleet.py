"""Replicas that share a real server, behind a real proxy: each can be killed, stopped, and started again."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from streamsim.compare import Samples
from streamsim.service_view import read_metrics
from tests.live.program import NO_MORE, Program
from tests.live.redis_server import RedisServer, running_server
from tests.needs import needed
from tests.service_process import ROOT, free_port

P = TypeVar("P", bound=Program)
PROXY = ROOT / "deploy" / "proxy" / "haproxy.cfg"


class Replica(Program):
    """One `python -m calsvc` in a folder, on the same port whenever it is started. `prefix`: a command to run it by."""

    def __init__(self, folder: Path, environ: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [*prefix, "env", f"--chdir={folder}", sys.executable, "-m", "calsvc"]
        super().__init__(
            command, f"{self.url}/readyz", folder / f"replica-{port}.log", {**environ, "CALSVC_PORT": str(port)}
        )


class Proxy(Program):
    """The proxy of deploy/proxy in front of services, on the same port whenever it is started.

    Args:
        folder: for its second file and its log.
        urls: of the services.
        environ: its variables (CALSVC_PROXY_...).
    """

    def __init__(self, folder: Path, urls: Sequence[str], environ: Mapping[str, str] = NO_MORE) -> None:
        address, self._metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.url = f"http://{address}"
        servers = [f"    server replica{number} {url.removeprefix('http://')}" for number, url in enumerate(urls)]
        metrics = ["frontend metrics from calsvc", f"    bind {self._metrics}"]
        metrics += ["    http-request use-service prometheus-exporter"]
        own = folder / "replicas.cfg"
        own.write_text("\n".join(["backend replicas from calsvc", *servers, *metrics, ""]))
        command = [needed("haproxy"), "-db", "-f", str(PROXY), "-f", str(own)]
        bind = {"CALSVC_PROXY_BIND": address}
        super().__init__(command, f"{self.url}/readyz", folder / "proxy.log", bind | dict(environ))

    def metrics(self) -> Samples:
        """What its Prometheus exporter says."""
        return read_metrics(f"http://{self._metrics}")


class Fleet(NamedTuple):
    """The replicas, those that are not started yet among them, and where their clients and they themselves go."""

    url: str
    replicas: Sequence[Replica]
    redis: RedisServer
    proxy: Proxy


@contextmanager
def running(program: P) -> Iterator[P]:
    """Start a program, and end it whatever has become of it."""
    try:
        program.start()
        yield program
    finally:
        program.end()


@contextmanager
def running_fleet(
    folder: Path, environ: Mapping[str, str], number: int, *, later: int = 0, server: RedisServer | None = None
) -> Iterator[Fleet]:
    """Run so many replicas with a server and a proxy; `later` more are known to the proxy and not started."""
    with running_server(server or RedisServer(folder / "redis")) as redis, ExitStack() as stack:
        told = {
            "CALSVC_STORE": redis.url,
            "CALSVC_STORE_HELD": str(folder / "held"),
            "CALSVC_DRAIN_DELAY": "1",
            **environ,
        }
        replicas = [Replica(folder, told) for _ in range(number + later)]
        for each in replicas:
            stack.callback(each.end)
        for each in replicas[:number]:
            each.start()
        proxy = stack.enter_context(running(Proxy(folder, [each.url for each in replicas])))
        yield Fleet(proxy.url, replicas, redis, proxy)

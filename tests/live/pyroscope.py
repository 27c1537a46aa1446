"""A real Pyroscope server on loopback."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.live.program import Program
from tests.needs import needed
from tests.service_process import PATIENCE, free_port

CPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
RINGS = ("ring", "compactor.ring", "distributor.ring", "overrides-exporter.ring", "query-scheduler.ring")
RINGS += ("store-gateway.sharding-ring",)
T = TypeVar("T")


class Pyroscope:
    """A server that can be stopped, killed and started again: same ports, same files."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [needed("pyroscope"), *_arguments(folder / "pyroscope", self.url)]
        program = Program(command, f"{self.url}/ready", folder / "pyroscope.log")
        self.start, self.signal, self.end, self.wait_for = program.start, program.signal, program.end, program.wait_for

    def values(self, label: str, selector: str = "{}") -> list[str]:
        """What a label has been on profiles of the last hour."""
        now = int(time.time() * 1000)
        asked = {"name": label, "matchers": [selector], "start": now - 3_600_000, "end": now + 60_000}
        names: list[str] = self._ask("querier.v1.QuerierService/LabelValues", asked).get("names", [])
        return names

    def functions(self, selector: str, since: float | None = None) -> dict[str, int]:
        """CPU nanoseconds of each function, with all that it called.

        Args:
            selector: of the labels.
            since: seconds since the epoch; an hour ago without.
        """
        now = int(time.time() * 1000)
        asked: dict[str, Any] = {"profileTypeID": CPU, "labelSelector": selector, "maxNodes": 100_000}
        asked |= {"start": now - 3_600_000 if since is None else int(since * 1000), "end": now + 60_000}
        answer = self._ask("querier.v1.QuerierService/SelectMergeStacktraces", asked)
        return _totals(answer.get("flamegraph", {}))

    def _ask(self, method: str, message: Any) -> Any:
        """Call the server as a browser would, by Connect with JSON."""
        request = urllib.request.Request(  # noqa: S310 - always http://127.0.0.1
            f"{self.url}/{method}", json.dumps(message).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{method}: {error.read().decode(errors='replace')}") from None


def _arguments(folder: Path, url: str) -> list[str]:
    """One process with all parts, its files in `folder`, which talks to itself on loopback and to nobody else."""
    port, grpc, gossip = url.rpartition(":")[2], free_port(), free_port()
    settings = {
        "target": "all",
        "usage-stats.enabled": "false",
        "self-profiling.disable-push": "true",
        "server.http-listen-address": "127.0.0.1",
        "server.http-listen-port": port,
        "server.grpc-listen-address": "127.0.0.1",
        "server.grpc-listen-port": grpc,
        "memberlist.bind-addr": "127.0.0.1",
        "memberlist.bind-port": gossip,
        "memberlist.advertise-addr": "127.0.0.1",
        "ingester.lifecycler.addr": "127.0.0.1",
        "ingester.min-ready-duration": "0s",
        "query-frontend.instance-addr": "127.0.0.1",
        **{f"{ring}.store": "inmemory" for ring in RINGS},
        **{f"{ring}.instance-addr": "127.0.0.1" for ring in RINGS[1:]},
        "storage.backend": "filesystem",
        "storage.filesystem.dir": folder / "shared",
        "pyroscopedb.data-path": folder / "db",
        "compactor.data-dir": folder / "compactor",
        "blocks-storage.bucket-store.sync-dir": folder / "sync",
    }
    return [f"-{name}={value}" for name, value in settings.items()]


def _totals(graph: Any) -> dict[str, int]:
    """Time of each function from a flame graph: levels of quadruples (offset, total, self, name), numbers as text.

    A function that is in its own stack counts twice.
    """
    totals: dict[str, int] = {}
    for level in graph.get("levels", []):
        values = level["values"]
        for at in range(0, len(values), 4):
            name = graph["names"][int(values[at + 3])]
            totals[name] = totals.get(name, 0) + int(values[at + 1])
    return totals


@contextmanager
def running_pyroscope(folder: Path) -> Iterator[Pyroscope]:
    """Run a server with its files in `folder`."""
    server = Pyroscope(folder)
    try:
        server.start()
        yield server
    finally:
        server.end()

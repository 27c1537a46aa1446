"""A peer's processes: a server may start others, and all of them are frozen, thawed and stopped together."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.bench.peers.asking import answered
from tests.bench.peers.declared import Peer, Site, environ_of
from tests.bench.peers.wire import Template
from tests.bench.processes import Server, cpu_seconds, environment, on_core
from tests.service_process import free_port

PATIENCE: Final = 10.0
"""Seconds in which processes that were told to end must be gone."""


class Tree:
    """A server and its descendants, in the form that `measure.in_turns` takes. `pid` is the one that does the work."""

    def __init__(self, server: Server, patience: float = PATIENCE) -> None:
        self._server = server
        self._patience = patience
        self.port = server.port
        self.pid = server.pid

    def find_worker(self, work: Callable[[], None]) -> None:
        """Let `pid` be the process that spends the most CPU time on `work`."""
        before = _spent(descendants(self._server.pid))
        work()
        after = _spent(descendants(self._server.pid))
        if after:
            self.pid = max(after, key=lambda pid: after[pid] - before.get(pid, 0.0))

    def freeze(self) -> None:
        """Stop the time of all processes, parents first: none shall notice that a child is gone."""
        _signal(descendants(self._server.pid), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them run on."""
        _signal(reversed(descendants(self._server.pid)), signal.SIGCONT)

    def stop(self) -> None:
        """Let them end; kill those that do not."""
        self.thaw()
        everyone = descendants(self._server.pid)
        self._server.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._server.process.wait(self._patience)
        orphans = [pid for pid in everyone if pid != self._server.pid]
        _signal(orphans, signal.SIGTERM)
        until = time.monotonic() + self._patience
        while any(map(_runs, orphans)) and time.monotonic() < until:
            time.sleep(0.05)
        _signal([pid for pid in orphans if _runs(pid)], signal.SIGKILL)
        if self._server.process.poll() is None:
            self._server.process.kill()
            self._server.process.wait()


def descendants(root: int) -> list[int]:
    """Return a process and all that it has started, parents first; itself alone where /proc does not tell."""
    found = [root]
    for pid in found:  # grows meanwhile
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


@contextmanager
def running(peer: Peer, site: Site, first: Template, core: int | None, log: Path) -> Iterator[Tree]:
    """Run a peer, with its output in the file `log`; wait until it answers the request `first`; stop it at the end.

    Raises:
        RuntimeError: with what it has printed, where it does not answer.
    """
    port = free_port()
    with log.open("w+b") as output:
        with on_core(core):
            process = subprocess.Popen(
                [str(each) for each in peer.command(site, port)],
                env=environment(environ_of(peer, site, port)),
                cwd=site.models,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        server = Server(process, port, output)
        tree = Tree(server)
        try:
            server.wait(lambda port: answered(port, first))
            yield tree
        finally:
            tree.stop()


def _spent(pids: Iterable[int]) -> dict[int, float]:
    """Return the CPU seconds of the processes that there are, where the system tells."""
    spent = {}
    for pid in pids:
        with suppress(OSError):
            if (seconds := cpu_seconds(pid)) is not None:
                spent[pid] = seconds
    return spent


def _signal(pids: Iterable[int], which: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, which)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""Processes of a measurement: on a core of their own, frozen while another is measured, stopped by their ids."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

from tests.service_process import free_port

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
"""Seconds in which a process must have come up, or gone."""
OURS: Final = ("CALSVC_", "OTEL_", "PYROSCOPE_", "MLFLOW_", "OMP_", "MKL_", "OPENBLAS_")
"""Beginnings of variables that a measured process takes from the measurement alone, not from the user's shell."""


class Cores(NamedTuple):
    """Where the server runs, and where everything else does; None: anywhere."""

    server: int | None
    generator: int | None

    def __str__(self) -> str:
        """Return the sentence for the report."""
        if self.server is None:
            return "Server and generator share what there is: pinning needs Linux and two cores."
        return f"Server pinned to core {self.server}, generator and collector to core {self.generator}."


def two_cores() -> Cores:
    """Return the first two cores that this process may use, where there are two."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Pin this process, and thereby the children that it starts, for a while."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that all threads of a process have used, to the nanosecond; None where it is not told."""
    if not sys.platform.startswith("linux"):
        return None
    clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) returns on Linux
    return time.clock_gettime(clock)


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would change a measurement, and with `changes`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | dict(changes)


class Server:
    """A process that listens on a port of 127.0.0.1."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def wait(self, ready: Callable[[int], bool]) -> None:
        """Wait until `ready` says so of the port.

        Raises:
            RuntimeError: with what the process has printed, where it ends or takes too long.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"the process ended with {self.process.returncode}: {self.output()}")
            if ready(self.port):
                return
            time.sleep(0.02)
        raise RuntimeError(f"the process is not ready after {PATIENCE:g} s: {self.output()}")

    def output(self) -> str:
        """What the process has printed, the end of it."""
        self._log.seek(0)
        return self._log.read()[-5000:].decode(errors="replace")

    def epitaph(self) -> str:
        """Return what there is to say of a process that has ended by itself; nothing of one that runs."""
        ended = self.process.poll()
        return "" if ended is None else f"; the server ended with {ended}: {self.output()}"

    def freeze(self) -> None:
        """Stop its time: it costs nothing until `thaw`."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Let it end; kill it where it does not."""
        self.thaw()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Program(NamedTuple):
    """What to run: `python -m MODULE ARGUMENTS`, with its port in CALSVC_PORT; `ready` asks whether it can answer."""

    module: Sequence[str]
    environ: Mapping[str, str]
    ready: Callable[[int], bool]


@contextmanager
def serving(program: Program, folder: Path, core: int | None) -> Iterator[Server]:
    """Run a server, with its output in `folder`; wait until it is ready; stop it at the end."""
    port = free_port()
    with (folder / f"{program.module[0]}-{port}.log").open("w+b") as log:
        with on_core(core):
            process = subprocess.Popen(
                [sys.executable, "-m", *program.module],
                env=environment({"CALSVC_PORT": str(port), **program.environ}),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for the measurement, which then stops its servers one after the other
            )
        server = Server(process, port, log)
        try:
            server.wait(program.ready)
            yield server
        finally:
            server.stop()

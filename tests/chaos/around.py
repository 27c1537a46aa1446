"""What is around a service: a collector, a registry."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from observability.signals import MODEL_RESTORED
from streamsim.compare import total
from tests.chaos.outcome import Counts
from tests.chaos.scene import RATE, Scene, grown, metrics, wait_for
from tests.handouts import write_handout
from tests.live.fleet import running
from tests.live.program import Program
from tests.service_process import free_port


@contextmanager
def black_hole() -> Iterator[str]:
    """A port that takes no connection and refuses none: its queue is full, so that nobody hears back from it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"


def collector_black_hole(scene: Scene) -> Counts:
    """Send spans and profiles where nothing is heard back from."""
    with black_hole() as nowhere:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": nowhere, "OTEL_BSP_SCHEDULE_DELAY": "200", "NO_PROXY": "127.0.0.1"}
        with (
            scene.service(**environ, OTEL_TRACES_SAMPLER="always_on", OTEL_BSP_MAX_QUEUE_SIZE="512") as service,
            scene.load(service.url, [service], 25) as load,
        ):
            load.after(5 * RATE)
            before = metrics(service)
            wait_for(lambda: total(metrics(service), "calsvc_spans_dropped_total"))
            load.after(20 * RATE)
            after = metrics(service)
            dropped = total(after, "calsvc_spans_dropped_total")
            scene.remark(f"{dropped:.0f} spans counted as lost, {grown(before, after)}")
    return load.counts()


def registry_down(scene: Scene) -> Counts:
    """Serve by alias, kill the registry, restart the service without it."""
    port = free_port()
    command = ["setsid", "env", f"--chdir={scene.folder}"]  # of a session of its own: it has workers, which go with it
    command += [sys.executable, "-m", "calsvc.training.mlflow_ui", "--port", str(port)]
    registry = Program(command, f"http://127.0.0.1:{port}/health", scene.folder / "registry.log")
    environ = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "NO_PROXY": "127.0.0.1"}
    alias = {"CALSVC_MODEL": "models:/calories@champion", "CALSVC_MODEL_POLL": "1"}
    with running(registry), ExitStack() as stack:
        stack.callback(_end_session, registry.pid)
        _register(scene.folder, environ)
        with scene.service(**environ, **alias) as service, scene.load(service.url, [service], 14) as load:
            load.after(4 * RATE)
            _end_session(registry.pid)
            load.after(7 * RATE)
            service.stop()
            service.start()
            wait_for(lambda: MODEL_RESTORED.name in service.said())
            scene.remark("restarted, it serves its local copy")
    return load.counts()


def _end_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _register(folder: Path, environ: Mapping[str, str]) -> None:
    """Train a small model, and make it champion."""
    handout = {"CALSVC_HANDOUT_DIR": str(write_handout(folder / "hand out"))}
    for command in ("train", "promote"):
        subprocess.run(
            [sys.executable, "-m", f"calsvc.training.{command}"],
            cwd=folder,
            env=os.environ | handout | dict(environ),
            check=True,
            capture_output=True,
        )

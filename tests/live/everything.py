"""`python -m tests.live.everything FOLDER`: run what a user runs, beside a proxy that records; JSON of what was seen.

    asked: requests that came to the proxy; written: files below the home folder; failed: commands that did not end well

Everything is in FOLDER: a handout, a home folder and what the commands write. Only loopback has to be there, and is
brought up where this process alone has it, in a network namespace.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from tests.handouts import write_handout
from tests.service_process import PATIENCE, free_port
from tests.serving import serving

LISTENING: Final = 15.0
"""Seconds: ONNX Runtime sends its first request within ten, its second within fifteen."""
_INHERITED: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "LANG")
"""Others that are set where tests run (CI, PYTEST_CURRENT_TEST) keep libraries from sending by themselves."""
_SET_INTERFACE_FLAGS: Final = 0x8914


class _Refusing(BaseHTTPRequestHandler):
    asked: Final[list[str]] = []

    def refuse(self) -> None:
        """Record and refuse."""
        self.asked.append(f"{self.command} {self.path}")
        self.send_error(502)

    do_CONNECT = do_GET = do_POST = refuse  # noqa: N815 - the standard library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Commands:
    """Commands of the project in one folder and one environment."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.environ = dict(environ)
        self.failed: list[str] = []

    def run(self, module: str, *arguments: str, **environ: str) -> None:
        """Run one to its end."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ | environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            self.failed.append(f"{module} {' '.join(arguments)}: {done.returncode} {done.stdout}{done.stderr}")

    @contextmanager
    def running(self, url: str, module: str, *arguments: str, **environ: str) -> Iterator[None]:
        """Run one that serves, from when `url` answers."""
        with (self.folder / f"{module}.log").open("w+b") as log:
            command = [sys.executable, "-m", module, *arguments]
            process = subprocess.Popen(command, cwd=self.folder, env=self.environ | environ, stdout=log, stderr=log)
            try:
                if not _answers(url, process):
                    log.seek(0)
                    self.failed.append(f"{module} does not serve: {log.read().decode()}")
                yield
            finally:
                process.terminate()
                process.wait(PATIENCE)


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError):
            _get(url)
            return True
        time.sleep(0.05)
    return False


def _get(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=PATIENCE) as answer:
        return bytes(answer.read())


def main(folder: Path) -> None:
    """Run all of it."""
    _bring_up_loopback()
    home = folder / "home"
    home.mkdir()
    handout = write_handout(folder / "hand out")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)) as proxy:
        address = f"http://127.0.0.1:{proxy.server_port}"
        names = ("http_proxy", "https_proxy", "all_proxy")
        environ = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environ |= {spelling: address for name in names for spelling in (name, name.upper())}
        environ |= {"HOME": str(home), "CALSVC_HANDOUT_DIR": str(handout)}
        commands = Commands(folder, environ)
        run_everything(commands)
    files = (str(each.relative_to(home)) for each in home.rglob("*") if each.is_file())
    # matplotlib's list of this machine's fonts is no secret, and is not sent
    written = sorted(each for each in files if not each.startswith((".cache/matplotlib/", ".config/matplotlib/")))
    print(json.dumps({"asked": _Refusing.asked, "written": written, "failed": commands.failed}))


def run_everything(commands: Commands) -> None:
    """Run demo, train, promote, predict and rollback, MLflow's server, serve, stream and stress, and wait a while."""
    commands.run("streamsim", "demo", "--duration", "2")
    commands.run("calsvc.training.predict")
    ports = [str(free_port()) for _ in range(2)]
    mlflow, service = (f"http://127.0.0.1:{port}" for port in ports)
    registry = {"MLFLOW_TRACKING_URI": mlflow, "CALSVC_MODEL": "models:/calories@champion"}
    serve = registry | {"CALSVC_PORT": ports[1], "CALSVC_DRAIN_DELAY": "0"}
    with ExitStack() as running:
        ui = ("calsvc.training.mlflow_ui", "--port", ports[0])
        running.enter_context(commands.running(f"{mlflow}/health", *ui))
        _get(f"{mlflow}/ajax-api/3.0/mlflow/ui-telemetry")  # as its page does: whether that may send anything
        commands.run("calsvc.training.promote", **registry)  # the version that demo has trained
        commands.run("calsvc.training.train", "--engine", "reference", **registry)
        commands.run("calsvc.training.promote", **registry)
        running.enter_context(commands.running(f"{service}/readyz", "calsvc", **serve))
        began = time.monotonic()
        commands.run("calsvc.http.probe", CALSVC_PORT=ports[1])
        sending = ("--url", service, "--feedback-delay", "1", "--metrics-port", "0")
        commands.run("streamsim", "stream", *sending, "--rps", "10", "--on", "1", "--cycles", "1")
        commands.run("streamsim", "stress", "10", *sending, "--duration", "2", "--p99", "60s", "--errors", "100")
        time.sleep(max(0.0, began + LISTENING - time.monotonic()))
    commands.run("calsvc.training.rollback")


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, suppress(PermissionError):
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, struct.pack("16sh22x", b"lo", 1))  # 1: up


if __name__ == "__main__":
    main(Path(sys.argv[1]))

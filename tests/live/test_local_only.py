"""Nothing leaves the machine: libraries send no usage data, and write no id of the device."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.handouts import write_handout
from tests.service_process import service_process
from tests.serving import serving

pytestmark = pytest.mark.slow

LISTENING = 15.0
"""Seconds: ONNX Runtime sends its first request within ten, its second within fifteen."""
SWITCHED_OFF_ELSEWHERE = ("CI", "KEPT_TRAININGS", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY")
SWITCHED_OFF_ELSEWHERE += ("NO_PROXY", "no_proxy")
"""Variables that keep a library from sending, or from using the proxy or being imported, whatever this project does."""


class Outside:
    """A proxy that records what it is asked for and refuses it, and a home directory that should stay empty."""

    def __init__(self, url: str, home: Path) -> None:
        self.asked: list[str] = []
        self.home = home
        names = ("http_proxy", "https_proxy", "all_proxy")
        self.environ = {name: value for name, value in os.environ.items() if name not in SWITCHED_OFF_ELSEWHERE}
        self.environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
        self.environ |= {spelling: url for name in names for spelling in (name, name.upper())}

    def run(self, folder: Path, module: str, **environ: str) -> None:
        """Run a module of this project to its end, which must be a good one."""
        command = [sys.executable, "-m", module]
        done = subprocess.run(command, cwd=folder, env=self.environ | environ, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def written(self) -> list[str]:
        """Every file below the home directory, but for matplotlib's list of this machine's fonts."""
        files = (str(each.relative_to(self.home)) for each in self.home.rglob("*") if each.is_file())
        return sorted(each for each in files if not each.startswith(".cache/matplotlib/"))


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """The proxy, and for this process an environment in which nothing is switched off by chance."""
    for name in SWITCHED_OFF_ELSEWHERE:
        monkeypatch.delenv(name, raising=False)

    class Handler(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            found.asked.append(f"{self.command} {self.path}")
            self.send_error(502)

        do_CONNECT = do_GET = do_POST = refuse  # noqa: N815 - the standard library's names

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "home").mkdir()
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        found = Outside(f"http://127.0.0.1:{server.server_port}", tmp_path / "home")
        yield found


def test_training_and_serving_send_no_request_and_leave_no_file(outside: Outside, tmp_path: Path) -> None:
    """A proxy receives nothing for 15 s, and no id of the device is written; the registry's process is among them."""
    handout = write_handout(tmp_path / "handout")
    environ = {"CALSVC_HANDOUT_DIR": str(handout), "CALSVC_MODEL": "models:/calories@champion"}
    outside.run(tmp_path, "calsvc.training.train", **environ)
    outside.run(tmp_path, "calsvc.training.promote", **environ)
    with service_process(tmp_path, outside.environ | environ, folder_of_process=tmp_path):
        time.sleep(LISTENING)
    assert (outside.asked, outside.written()) == ([], [])

"""Compose projects of tests: their own names, ports and volumes, and gone afterwards."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from deploy.compose.stack import Machine, command, variables
from tests.conftest import Workshop
from tests.live.images import DEFAULTS, is_there
from tests.service_process import PATIENCE, free_port

T = TypeVar("T")
LONG = 180.0
"""Seconds for everything to come up: on two cores a dozen containers take their time."""


def demand_images(*names: str) -> None:
    """Fail where one of these images is missing."""
    missing = [image for image in names if not is_there(image)]
    assert not missing, f"{missing} missing: python -m tests.live.images, or docker pull"


class Stack:
    """A project with some of the layers."""

    def __init__(self, name: str, layers: Sequence[str], environ: Mapping[str, str]) -> None:
        self._layers = layers
        ports = {key: str(free_port()) for key in DEFAULTS if key.endswith("_PUBLISHED")}
        given = {"COMPOSE_PROJECT_NAME": name, **ports, **environ}
        told = variables(layers, Machine(2, "0.1.0", "0" * 40), given, DEFAULTS)
        self.environ = os.environ | DEFAULTS | told | given
        self.name = name

    def url(self, port: str = "CALSVC_PUBLISHED") -> str:
        """Where something is published, by its variable."""
        return f"http://127.0.0.1:{self.environ[port]}"

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Say something to compose; AssertionError with what it said where it fails."""
        said = subprocess.run(
            command(self._layers, *words),
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG * 2,
        )
        assert not check or said.returncode == 0, f"{words}: {said.stdout[-1500:]}{said.stderr[-1500:]}{self.logs()}"
        return said

    def logs(self) -> str:
        """The end of what each container has said."""
        words = command(self._layers, "logs", "--no-color", "--tail=15")
        return subprocess.run(words, env=self.environ, capture_output=True, text=True, check=False).stdout[-8000:]

    def up(self, *services: str) -> None:
        """Start them all, or some with what they wait for, and wait until they are well. Nothing is built or pulled."""
        waiting = ("--wait", "--wait-timeout", str(int(LONG)))
        self.compose("up", "--detach", "--no-build", "--pull=never", *waiting, *services)

    def down(self) -> None:
        """Remove all that it has made."""
        self.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout=2", check=False)

    def run(self, service: str, *words: str) -> str:
        """Run a program in a container that runs, and return what it printed."""
        return self.compose("exec", "-T", service, *words).stdout.strip()

    def python(self, service: str, code: str) -> Any:
        """Run Python in a container that runs, and return the JSON that it printed."""
        return json.loads(self.run(service, "python", "-c", code))

    def inspect(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of a service's containers, those that have ended among them."""
        ids = self.compose("ps", "--all", "--quiet", service).stdout.split()
        asked = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True)
        found: list[dict[str, Any]] = json.loads(asked.stdout)
        return found

    def left(self) -> str:
        """Ids of the containers, volumes and networks that there are of it."""
        mine = ["--filter", f"label=com.docker.compose.project={self.name}", "--quiet"]
        asked = [["ps", "--all"], ["volume", "ls"], ["network", "ls"]]
        lists = (
            subprocess.run(["docker", *words, *mine], capture_output=True, text=True, check=True) for words in asked
        )
        return "".join(each.stdout for each in lists)


@contextmanager
def running_stack(name: str, layers: Sequence[str], environ: Mapping[str, str], *services: str) -> Iterator[Stack]:
    """Start a project, and remove it whatever has become of it."""
    stack = Stack(f"calsvc-test-{os.getpid()}-{name}", layers, environ)
    try:
        stack.up(*services)
        yield stack
    finally:
        stack.down()


def mounted(workshop: Workshop) -> dict[str, str]:
    """A workshop's folders, as compose mounts them."""
    return {
        "BUNDLE_DIR": str(workshop.bundle.resolve()),
        "HANDOUT_DIR": str(workshop.handout),
        "HOLDOUT_DIR": str(workshop.stream.parent),
    }


def call(url: str, body: Any = None) -> tuple[int, Any]:
    """GET, or POST of JSON; return status and what the JSON of the answer holds."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - always http://127.0.0.1
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_for(what: str, ask: Callable[[], T], patience: float = LONG) -> T:
    """Ask again and again until the answer is true, and return it."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if answer := ask():
            return answer
        time.sleep(0.5)
    raise TimeoutError(f"{what} did not come within {patience:g} s")

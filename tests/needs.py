"""Programs and services that some tests need beside the lock: how to find, install or build them.

A test is marked with `@needs("redis-server")`: `just test` leaves it out, `just test all` runs it if that is there.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from deploy.compose.stack import Refused, demand_docker
from tests.deploy import kustomize
from tests.go_programs import COLLECTOR, KUSTOMIZE, PYROSCOPE, GoProgram

needs: Final = pytest.mark.needs
CONFINED: Final = ("unshare", "--map-root-user", "--net")
"""Runs a program in a network namespace of its own."""
IMAGES: Final = ("tests.live.images",)


class Need(NamedTuple):
    """Something that tests need.

    find: where it is, or None. get: what a person can do if it is missing. build: the arguments of `python -m` that
    build it. takes: how long that takes the first time on two cores. parts: needs that it is built from, where present.
    """

    find: Callable[[], str | None]
    get: str
    build: Sequence[str] = ()
    takes: str = ""
    parts: Sequence[str] = ()

    def buildable(self) -> bool:
        """Whether to build it: Go programs if they are missing and Go is there, images always if an engine answers."""
        if self.build == IMAGES:
            return self.find() is not None
        return bool(self.build) and self.find() is None and shutil.which("go") is not None


def debian(package: str, *programs: str) -> Need:
    """Return the need of a program of a Debian package, under one of its names."""
    return Need(
        lambda: next(filter(None, map(shutil.which, programs or (package,))), None), f"apt-get install {package}"
    )


def go(program: GoProgram) -> Need:
    """Return the need of a program that is built from its Go module."""
    return Need(program.find, "needs Go: https://go.dev/dl", ("tests.go_programs", program.name), program.takes)


def _engine() -> str | None:
    try:
        demand_docker()
    except Refused:
        return None
    return "an engine answers"


def _kustomize() -> str | None:
    words = kustomize.command()
    return shlex.join(words) if words else None


def _strace() -> str | None:
    """Whether this user may run a program without a network, and watch it."""
    command = [*CONFINED, "strace", "--quiet=all", "--seccomp-bpf", "--follow-forks", "-o", os.devnull, "true"]
    try:
        ended = subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        return None
    return shutil.which("strace") if ended.returncode == 0 else None


def _full_disk() -> str | None:
    """Whether this user may mount a file system in memory."""
    with tempfile.TemporaryDirectory() as folder:
        if not mounted(Path(folder), "size=4k"):
            return None
        subprocess.run(["umount", "-l", folder], check=True)
    return "this user may mount"


def mounted(folder: Path, options: str) -> bool:
    """Mount a file system in memory; return whether this user may."""
    mount = shutil.which("mount") or "mount"
    command = [mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _real_rows() -> str | None:
    file = os.environ.get("CALSVC_REAL_DATA", "")
    return file if Path(file).is_file() else None


NEEDS: Final[Mapping[str, Need]] = {
    "cc": debian("gcc", "cc"),
    "chromium": debian("chromium", "chromium", "chromium-browser", "google-chrome"),
    "collector": go(COLLECTOR),
    "docker": Need(
        _engine,
        "a Docker engine with compose 2.24 or newer",
        IMAGES,
        "two minutes",
        ("collector", "haproxy", "prometheus", "pyroscope", "redis-server"),
    ),
    "haproxy": debian("haproxy"),
    "just": Need(
        lambda: shutil.which("just", path=f"{os.environ['PATH']}:{Path(__file__).parents[1] / '.tools/bin'}"),
        "./justw brings it",
    ),
    "kustomize": go(KUSTOMIZE)._replace(find=_kustomize),
    "mount": Need(_full_disk, "the right to mount a file system (root)"),
    "prometheus": debian("prometheus"),
    "promtool": debian("prometheus", "promtool"),
    "pyroscope": go(PYROSCOPE),
    "real rows": Need(_real_rows, "CALSVC_REAL_DATA=a CSV of labelled rows, such as Kaggle's playground-series-s5e5"),
    "redis-server": debian("redis-server", "redis-server", "valkey-server"),
    "shellcheck": debian("shellcheck"),
    "strace": Need(
        _strace, "apt-get install strace, and the right to make a network namespace (unshare --map-root-user)"
    ),
}


def needed_by(item: pytest.Item) -> set[str]:
    """Return the names of what a test needs."""
    return {name for marker in item.iter_markers("needs") for name in marker.args}


def needed(name: str) -> str:
    """Return where something is that a test needs; the test fails where it is not."""
    if (found := NEEDS[name].find()) is None:
        pytest.fail(f"{name} is missing ({NEEDS[name].get}); mark the test with needs({name!r}), or run just test all")
    return found

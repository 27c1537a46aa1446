"""Programs that the live tests build from Go modules, once, into the user's cache."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.needed import lacking


class BuildFailed(Exception):
    """The program is not there, and cannot be built."""


def in_cache(name: str) -> Path:
    """Return where a program is in the user's cache, or would be. `name` tells its version and content."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calsvc" / name


def cached(program: Path, what: str, build: Callable[[Path], Path]) -> Path:
    """Return a program of the cache, built now if it has to be.

    Args:
        program: where it is.
        what: it is, for people.
        build: builds it in a folder of its own, and returns where.

    Raises:
        BuildFailed: there is no Go, or no way to the modules.
    """
    if not program.exists():
        if shutil.which("go") is None:
            raise BuildFailed(f"{what} is built with Go, which is missing: https://go.dev/dl")
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
            build(Path(scratch)).replace(program)
    return program


def run(command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run a step of a build and return what it printed to stdout.

    Raises:
        BuildFailed: with the end of what it said.
    """
    ended = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"CGO_ENABLED": "0"} | dict(environ or {}),
        capture_output=True,
        check=False,
    )
    if ended.returncode != 0:
        said = (ended.stdout + ended.stderr).decode(errors="replace")
        raise BuildFailed(f"{' '.join(command)}: {said[-2000:]}")
    return ended.stdout.decode()


def needed(built: Callable[[], Path]) -> Path:
    """The program; where it cannot be had, skip on a user's machine and fail in CI."""
    try:
        return built()
    except BuildFailed as failure:
        lacking(str(failure))

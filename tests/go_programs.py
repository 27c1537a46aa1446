"""Third-party programs that tests run and that are built from their Go modules, once, into the user's cache.

`python -m tests.go_programs collector` builds one of them where it is not there yet, and prints where it is.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

STACK: Final = Path(__file__).parents[1] / "observability" / "stack"


class BuildFailed(Exception):
    """The program is not there, and cannot be built."""


class GoProgram(NamedTuple):
    """A program in the user's cache.

    name: file name. version: version and content hash, part of the folder's name. recipe: builds it in a folder and
    returns its path. takes: how long that takes the first time, on two cores.
    """

    name: str
    version: str
    recipe: Callable[[Path], Path]
    takes: str

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "calsvc" / f"{self.name}-{self.version}" / self.name

    def find(self) -> str | None:
        """Return where it is, if it is there."""
        return str(self.path) if self.path.exists() else None

    def built(self) -> Path:
        """Return where it is, built now if it has to be.

        Raises:
            BuildFailed: Go is missing, or the modules cannot be downloaded.
        """
        if not self.path.exists():
            if shutil.which("go") is None:
                raise BuildFailed(f"{self.name} is built with Go, which is missing: https://go.dev/dl")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.path.parent) as scratch:
                self.recipe(Path(scratch)).replace(self.path)
        return self.path


def _run(command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run a step of a build and return its standard output; BuildFailed with the end of what it printed."""
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


# The OpenTelemetry Collector, with the parts that its manifest names.
_MANIFEST: Final = STACK / "collector-builder.yaml"
_BUILDER: Final = "go.opentelemetry.io/collector/cmd/builder"


def _collector_version() -> str:
    found = re.search(r"^  version: (\S+)$", _MANIFEST.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def _build_collector(folder: Path) -> Path:
    _run(["go", "install", f"{_BUILDER}@v{_collector_version()}"], folder, {"GOBIN": str(folder)})
    _run([str(folder / "builder"), "--config", str(_MANIFEST), "--output-path", str(folder / "out")], folder)
    return folder / "out" / "calsvc-collector"


COLLECTOR: Final = GoProgram(
    "collector",
    f"{_collector_version()}-{hashlib.sha256(_MANIFEST.read_bytes()).hexdigest()[:12]}",
    _build_collector,
    "two minutes",
)

# Pyroscope, without the pages for a browser, which do not come with its module.
_PYROSCOPE: Final = "github.com/grafana/pyroscope"
_PYROSCOPE_VERSION: Final = "1.12.0"
_PYROSCOPE_API: Final = f"{_PYROSCOPE}/api"
_PYROSCOPE_API_VERSION: Final = "1.1.0"
"""The server's go.mod replaces this module by a folder that its own module lacks; this release is of the same weeks."""


def _build_pyroscope(folder: Path) -> Path:
    _run(["go", "mod", "init", "download"], folder)
    found = _run(["go", "mod", "download", "-json", f"{_PYROSCOPE}@v{_PYROSCOPE_VERSION}"], folder)
    source = Path(json.loads(found)["Dir"])
    own = folder / "own.mod"  # the module's own files are read-only
    own.write_bytes((source / "go.mod").read_bytes())
    own.with_suffix(".sum").write_bytes((source / "go.sum").read_bytes())
    replace = f"-replace={_PYROSCOPE_API}={_PYROSCOPE_API}@v{_PYROSCOPE_API_VERSION}"
    _run(["go", "mod", "edit", replace, own.name], folder)
    program, modules = folder / "pyroscope", (f"-modfile={own}", "-mod=mod")
    _run(["go", "build", *modules, "-ldflags=-s -w", "-o", str(program), "./cmd/pyroscope"], source, {"GOWORK": "off"})
    return program


PYROSCOPE: Final = GoProgram("pyroscope", _PYROSCOPE_VERSION, _build_pyroscope, "three minutes")

_KUSTOMIZE_VERSION: Final = "5.7.1"


def _build_kustomize(folder: Path) -> Path:
    _run(["go", "install", f"sigs.k8s.io/kustomize/kustomize/v5@v{_KUSTOMIZE_VERSION}"], folder, {"GOBIN": str(folder)})
    return folder / "kustomize"


KUSTOMIZE: Final = GoProgram("kustomize", _KUSTOMIZE_VERSION, _build_kustomize, "a minute")
PROGRAMS: Final = {each.name: each for each in (COLLECTOR, PYROSCOPE, KUSTOMIZE)}


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PROGRAMS:
        sys.exit(f"usage: python -m tests.go_programs {'|'.join(PROGRAMS)}")
    try:
        print(PROGRAMS[sys.argv[1]].built())
    except BuildFailed as failure:
        sys.exit(f"error: {failure}")

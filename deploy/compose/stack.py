"""`just up [LAYER ...]`, `just down [volumes]`, `just logs [SERVICE ...]`: which files and variables compose gets.

It says what compose cannot know: how many threads this machine has, which commit this is, and which layers are on
together. Everything else stands in the YAML files and `.env` beside this one.
"""

import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from observability.paths import given_path

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
LAYERS: Final = ("simulator", "observability", "mlflow", "replicas")
PAGES: Final = {
    "": [("CALSVC_PUBLISHED", "calsvc")],
    "simulator": [("STREAMSIM_PUBLISHED", "the simulator's /metrics")],
    "observability": [
        ("GRAFANA_PUBLISHED", "Grafana"),
        ("PROMETHEUS_PUBLISHED", "Prometheus"),
        ("JAEGER_PUBLISHED", "Jaeger"),
        ("PYROSCOPE_PUBLISHED", "Pyroscope"),
    ],
    "mlflow": [("MLFLOW_PUBLISHED", "MLflow")],
}
"""What a browser finds: the variable of the port, and what is there; by layer."""
MOUNTED: Final = (
    "deploy/compose",
    "deploy/proxy",
    "observability/rules",
    "observability/stack",
    "observability/generated",
)
"""Folders of this checkout from which containers mount files: git makes them under the umask of whoever clones."""
PLACES: Final = 16
"""How many replicas the proxy knows at most (replicas.cfg)."""
USAGE: Final = f"just up [{'|'.join(LAYERS)} ...], just down [volumes], just logs [SERVICE ...]"


class Refused(Exception):
    """What was asked for cannot be done; the text says why and what to do. `code`: of the exit."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


class Machine(NamedTuple):
    """What the variables are made of: CPU threads, version and commit of this checkout."""

    threads: int
    version: str
    commit: str


def chosen(words: Sequence[str]) -> tuple[str, ...]:
    """Return the layers that are named, each once and in the order in which they are laid.

    Raises:
        Refused: there is no such layer.
    """
    for word in words:
        if word not in LAYERS:
            raise Refused(f"there is no layer {word}: {USAGE}", 2)
    return tuple(layer for layer in LAYERS if layer in words)


def command(layers: Sequence[str], *verb: str) -> list[str]:
    """Return the command line of compose with these layers."""
    files = ["compose.yaml", *(f"compose.{layer}.yaml" for layer in layers)]
    return ["docker", "compose", *(part for name in files for part in ("--file", str(HERE / name))), *verb]


def variables(
    layers: Sequence[str], machine: Machine, given: Mapping[str, str], defaults: Mapping[str, str]
) -> dict[str, str]:
    """Return what `.env` cannot know; what the user has set in the environment (`given`) stays.

    Half of the threads is shared by the replicas. A trained model and held-out rows are named by where they are at the
    moment: after another training they are elsewhere, and `just up` makes the containers anew.

    Raises:
        Refused: there cannot be as many replicas as are asked for.
    """
    replicas = (
        wanted_replicas(given.get("CALSVC_REPLICAS") or defaults["CALSVC_REPLICAS"]) if "replicas" in layers else 1
    )
    handout = given.get("CALSVC_HANDOUT_DIR")
    half = machine.threads / 2
    told = {
        "CALSVC_CPUS": f"{max(half / replicas, 0.1):.2f}",
        "TRAINING_CPUS": f"{half:.2f}",
        "CALSVC_VERSION": machine.version,
        "CALSVC_GIT_SHA": machine.commit,
        "BUNDLE_DIR": str((ROOT / "data" / "bundle").resolve()),
        "STREAM_COLLECTOR": "http://collector:4318" if "observability" in layers else "",
    }
    told |= {"HANDOUT_DIR": str(given_path(handout, given).resolve())} if handout else {}
    return told | {key: given[key] for key in told if given.get(key)}


def wanted_replicas(text: str) -> int:
    """Return how many replicas are asked for.

    Raises:
        Refused: it is no number, or the proxy has no places for as many.
    """
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= PLACES:
        raise Refused(f"CALSVC_REPLICAS is {text}: say a whole number, 1 to {PLACES}", 2)
    return number


def pages(layers: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return a line for each page that a browser may look at now."""
    found = [each for layer in ("", *layers) for each in PAGES.get(layer, [])]
    return [f"http://127.0.0.1:{environ[port]}  {what}" for port, what in found]


def read_defaults(text: str) -> dict[str, str]:
    """Return the variables of an env file."""
    lines = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value for key, _, value in lines}


def demand_docker(which: Callable[[str], str | None] = shutil.which) -> None:
    """Find out whether containers can be run here at all.

    Raises:
        Refused: the client, its compose or the engine is missing.
    """
    if which("docker") is None:
        raise Refused("docker is missing: install Docker Engine and its compose plugin, or run without: just serve")
    if _fails("docker", "compose", "version"):
        raise Refused("docker has no compose: install the plugin docker-compose-plugin (2.24 or newer)")
    if why := _fails("docker", "version", "--format", "{{.Server.Version}}"):
        raise Refused(f"no engine answers docker: start it, or set DOCKER_HOST ({why})")


def _fails(*words: str) -> str:
    """Run a question, and return the last line of what it complained of, if it failed."""
    asked = subprocess.run(words, capture_output=True, text=True, check=False)
    said = (asked.stderr or asked.stdout).strip() or f"exit code {asked.returncode}"
    return said.splitlines()[-1] if asked.returncode else ""


def _machine() -> Machine:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return Machine(len(os.sched_getaffinity(0)), project["version"], asked.stdout.strip() or "unknown")


def _ensure_model() -> None:
    """Train first where there is no model yet, as `just serve` does: the same rows are then held out everywhere.

    Whoever names a bundle of his own has one.
    """
    here = (ROOT / "data" / "bundle").exists() and (ROOT / "data" / "holdout" / "stream.csv").exists()
    if here or os.environ.get("BUNDLE_DIR"):
        return
    trained = subprocess.run([sys.executable, "-m", "calsvc.training.train", "--engine", "auto"], cwd=ROOT, check=False)
    if trained.returncode != 0:
        raise Refused("there is no model to serve, and training one has failed: see above")


def _run(words: Sequence[str], environ: Mapping[str, str]) -> None:
    code = subprocess.run(words, env=dict(environ), check=False).returncode
    if code != 0:
        raise Refused(f"docker compose ended with {code}: see above", code)


def unreadable(path: Path) -> list[Path]:
    """Return what of a folder, or which file, other users cannot read."""
    return [each for each in (path, *path.rglob("*")) if not each.is_symlink() and _readable(each) != _mode(each)]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _readable(path: Path) -> int:
    """Return the mode that `chmod a+rX` would give."""
    return _mode(path) | (0o555 if path.is_dir() or _mode(path) & 0o111 else 0o444)


def open_mounts(ours: Sequence[Path], others: Sequence[Path]) -> list[str]:
    """Let the containers' users read what is ours; return a warning for each path that they cannot read."""
    for each in (each for path in ours if path.exists() for each in unreadable(path)):
        with suppress(PermissionError):
            each.chmod(_readable(each))
    closed = [path for path in (*ours, *others) if path.exists() and unreadable(path)]
    return [f"the containers may be unable to read {path}: chmod -R a+rX '{path}'" for path in closed]


def _mounts(environ: Mapping[str, str]) -> tuple[list[Path], list[Path]]:
    """Return what is mounted: what this project has made, and what is somebody else's, the handout above all."""
    named = [(HERE / environ[key]).resolve() for key in ("BUNDLE_DIR", "HOLDOUT_DIR")]
    ours = [each for each in named if each.is_relative_to(ROOT / "data")]
    handout = (HERE / environ["HANDOUT_DIR"]).resolve()
    return [ROOT / each for each in MOUNTED] + ours, [each for each in named if each not in ours] + [handout]


def _up(words: Sequence[str], told: Callable[[Sequence[str]], dict[str, str]]) -> None:
    layers = chosen(words)
    _ensure_model()
    environ = told(layers)
    for warning in open_mounts(*_mounts(environ)):
        print(f"warning: {warning}", file=sys.stderr)
    _run(command(layers, "up", "--detach", "--build", "--remove-orphans", "--wait"), environ)
    print("\n".join(pages(layers, environ)))


def _down(words: Sequence[str], told: Callable[[Sequence[str]], dict[str, str]]) -> None:
    if list(words) not in ([], ["volumes"]):
        raise Refused(f"down removes containers and networks, `down volumes` also what they have stored: {USAGE}", 2)
    everything = ["--profile", "*"]
    verb = ["down", "--remove-orphans", *(["--volumes"] if words else [])]
    _run(command(LAYERS, *everything, *verb), told(LAYERS))


def _logs(words: Sequence[str], told: Callable[[Sequence[str]], dict[str, str]]) -> None:
    _run(command(LAYERS, "logs", "--follow", "--tail=100", *words), told(LAYERS))


def main(arguments: Sequence[str]) -> int:
    """Do one of the three; return the exit code: 0, 2 for a wrong word, else compose's own or 1."""
    defaults = read_defaults((HERE / ".env").read_text(encoding="utf-8"))

    def told(layers: Sequence[str]) -> dict[str, str]:
        given = {key: value for key, value in os.environ.items() if value}
        return defaults | given | variables(layers, _machine(), given, defaults)

    verbs = {"up": _up, "down": _down, "logs": _logs}
    try:
        if not arguments or arguments[0] not in verbs:
            raise Refused(USAGE, 2)
        chosen(arguments[1:] if arguments[0] == "up" else [])  # before anything is asked of an engine
        demand_docker()
        verbs[arguments[0]](arguments[1:], told)
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return refused.code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Venvs and model files of the peers, under data/peers (git ignores it): each is made once for what it is made of."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from calsvc.http.errors import CalsvcError
from calsvc.model.bundle import TREES, Bundle
from calsvc.settings import Settings
from calsvc.training.holdout import FOLDER as HOLDOUT
from tests.bench.install_sizes import uv
from tests.bench.part import say
from tests.bench.peers import declared
from tests.bench.peers.declared import SERVERS, Peer, Site
from tests.bench.processes import ROOT

FOLDER: Final = ROOT / "data" / "peers"
OVERRIDES: Final = SERVERS / "overrides.txt"
FAILURES: Final = (CalsvcError, OSError, RuntimeError, subprocess.CalledProcessError)
"""What one peer may fail with while the others go on."""


def requirements_of(venv: str) -> Path:
    """Return the file that pins what a venv holds."""
    return SERVERS / f"{venv}.txt"


def pins(venv: str) -> dict[str, str]:
    """Return the pinned versions by distribution."""
    lines = requirements_of(venv).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def made(peer: Peer, bundle: Bundle, settings: Settings) -> Site:
    """Make a peer's venv and model files where they do not exist for this bundle; return where they are.

    Raises:
        One of `FAILURES`.
    """
    home, models = FOLDER / peer.venv, FOLDER / peer.venv / "-".join(peer.name.replace(",", "").split())
    python = home / "venv" / "bin" / "python"
    wanted = requirements_of(peer.venv).read_text() + OVERRIDES.read_text()
    once(home / "venv", wanted, lambda: _install(peer, home / "venv"))
    site = Site(python, models, bundle.folder / TREES, settings.handout_dir.resolve(), HOLDOUT.resolve())

    def prepare() -> None:
        models.mkdir(parents=True)
        say(f"{peer.name}: preparing its model files")
        peer.prepare(site)

    once(models, f"{bundle.manifest.model_version}\n{_checksum()}\n{wanted}", prepare)
    return site


def once(folder: Path, key: str, make: Callable[[], None]) -> None:
    """Make a folder anew unless it was made, to the end, from the same `key`."""
    mark = folder.with_name(f"{folder.name}.made-from")
    if folder.exists() and mark.exists() and mark.read_text() == key:
        return
    mark.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    make()
    mark.write_text(key)


def reason(error: BaseException) -> str:
    """Return the line that tells most about what went wrong, without the folder of this checkout."""
    text = getattr(error, "stderr", None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    telling = [line for line in lines if re.match(r"\w*Error\b", line, re.IGNORECASE)] or lines
    return telling[-1].replace(str(ROOT), ".").replace("|", "/")[:300]


def _install(peer: Peer, venv: Path) -> None:
    program = uv()
    if program is None:
        raise FileNotFoundError("uv is neither on the path nor in .tools/bin; ./justw brings it")
    say(f"{peer.name}: installing {', '.join(f'{name} {version}' for name, version in pins(peer.venv).items())}")
    # Its own interpreter and no other: what `uv run` has set would send the packages into the project's venv.
    ours = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH")
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    install = [program, "pip", "install", "--quiet", "--python", venv / "bin" / "python"]
    for command in (
        [program, "venv", "--quiet", "--no-project", "--python", sys.executable, venv],
        [*install, "--requirements", requirements_of(peer.venv), "--overrides", OVERRIDES],
    ):
        subprocess.run(command, env=environ, check=True, capture_output=True, text=True)


def _checksum() -> str:
    """Return a checksum of everything that says how model files are made."""
    files = [Path(declared.__file__), *sorted(SERVERS.glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

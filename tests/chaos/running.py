"""Makes one fault and judges what came of it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from calsvc.settings import Settings
from tests.chaos.faults import Fault
from tests.chaos.outcome import Seen, broken
from tests.chaos.scene import Scene
from tests.service_process import ROOT

ROWS: Final = ROOT / "data" / "holdout" / "stream.csv"


def observe(fault: Fault, model: Path, rows: Path, *, keep: bool = False) -> Seen:
    """Make one fault in a folder of its own, which is kept where that is wanted.

    Raises:
        Impossible: it cannot be made on this machine.
    """
    begun = time.monotonic()
    with scratch(keep=keep) as folder:
        scene = Scene(folder, model, rows)
        counts = fault.make(scene)
        complaints = broken(fault.promise, counts) + tracebacks(folder)
        say(f"{time.monotonic() - begun:.0f} s; {'; '.join([str(counts), *scene.remarks, *complaints])}")
        return Seen(fault.title, fault.promise.text, counts, scene.remarks, complaints)


@contextmanager
def scratch(*, keep: bool) -> Iterator[Path]:
    """A folder with a space in its name."""
    folder = Path(tempfile.mkdtemp(prefix="calsvc chaos "))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def tracebacks(folder: Path) -> list[str]:
    """Say which logs have one."""
    logs = [*folder.glob("replica-*.log"), folder / "load.log"]
    return [f"{log.name} has a traceback" for log in logs if "Traceback" in log.read_text(errors="replace")]


def served_model() -> Path:
    """Return the bundle to serve, trained first where there is none, or no rows to send."""
    bundle = Settings.from_env(os.environ).bundle_path
    if not bundle.exists() or not ROWS.exists():
        for command in ("holdout", "train"):
            subprocess.run([sys.executable, "-m", f"calsvc.training.{command}"], cwd=ROOT, check=True)
    return bundle.resolve()


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)

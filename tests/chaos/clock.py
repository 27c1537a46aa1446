"""A wall clock that is set under a running process, and under that process alone."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from tests.chaos.outcome import Impossible

SOURCE = Path(__file__).with_name("clock.c")


class WallClock:
    """The wall clock of the processes that are started with `environ`."""

    def __init__(self, folder: Path) -> None:
        compiler = which("cc")
        if compiler is None:
            raise Impossible("a C compiler is missing: apt-get install gcc libc6-dev")
        library, self._step = folder / "clock.so", folder / "clock.step"
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True, capture_output=True)
        self._step.write_bytes(bytes(8))
        self.environ: Mapping[str, str] = {"LD_PRELOAD": str(library), "CLOCK_STEP_FILE": str(self._step)}

    def set(self, seconds: int) -> None:
        """Let it be off by so many seconds from now on."""
        with self._step.open("r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

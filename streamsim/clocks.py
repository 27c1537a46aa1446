"""The clocks of a run, handed in so that tests can own them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return which start of the machine `time.monotonic` counts from, for all its processes; empty where unknown."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Clocks(NamedTuple):
    """`monotonic` plans and measures; `wall` (epoch seconds) is what a process understands after another `boot`."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    boot: Callable[[], str] = boot_id


class Calendar(NamedTuple):
    """Epoch seconds that nobody can set: the wall clock was read once, `ahead` of the monotonic one that counts on."""

    monotonic: Callable[[], float]
    ahead: float

    def now(self) -> float:
        """Return epoch seconds."""
        return self.monotonic() + self.ahead

"""The two clocks of a run, handed in so that tests can own them."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Clocks(NamedTuple):
    """`monotonic` plans and measures inside one process; `wall` (epoch seconds) is what a later process understands."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

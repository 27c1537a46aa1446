"""How many of the machine's threads the numeric libraries may use."""

import os
from collections.abc import Mapping
from typing import Final

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
"""Read by XGBoost and ONNX Runtime, by NumPy's linear algebra, and by polars, each once, when it loads."""


def cpu_threads(fraction: float, available: int) -> int:
    """Whole threads out of `available`, rounded down, at least one."""
    return max(1, int(fraction * available))


def available_cpus() -> int:
    """CPUs this process may run on (what `taskset` or a container's CPU set leaves of the machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_caps(fraction: float, environ: Mapping[str, str], available: int) -> dict[str, str]:
    """Environment for the numeric libraries; what the user has set already stays as it is."""
    threads = str(cpu_threads(fraction, available))
    return {name: environ.get(name) or threads for name in THREAD_VARIABLES}


def threads_in_force() -> dict[str, str | None]:
    """Return the thread caps that the numeric libraries of this process found when they loaded."""
    return {name: os.environ.get(name) for name in THREAD_VARIABLES}

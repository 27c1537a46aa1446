"""How the training data was distributed: the reference against which drift is measured later."""

from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

BINS: Final = 20
"""Of a histogram, all equally wide."""


class Profile(Struct, frozen=True):
    """One column: `deciles` holds the nine inner ones; `edges` (len(counts) + 1, ascending) run from min to max."""

    count: int
    mean: float
    sd: float
    min: float
    max: float
    deciles: list[float]
    edges: list[float]
    counts: list[int]


def profile_of(values: NDArray[Any]) -> Profile:
    """Describe a column of finite numbers, shape (n,) with n > 0. `sd` is that of the population (divided by n)."""
    counts, edges = np.histogram(values, bins=BINS)
    return Profile(
        count=len(values),
        mean=float(np.mean(values)),
        sd=float(np.std(values)),
        min=float(np.min(values)),
        max=float(np.max(values)),
        deciles=[float(each) for each in np.quantile(values, np.arange(1, 10) / 10)],
        edges=[float(each) for each in edges],
        counts=[int(each) for each in counts],
    )

"""From what the trees add up to, back to kcal: the inverse of the transform that the target was trained under."""

import math
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Transform = Literal["log1p", "log", "identity", "sqrt"]

_ONE: Final[dict[Transform, Callable[[float], float]]] = {
    "log1p": math.expm1,
    "log": math.exp,
    "identity": float,
    "sqrt": lambda margin: margin * margin,
}
_MANY: Final[dict[Transform, Callable[[NDArray[Any]], NDArray[Any]]]] = {
    "log1p": np.expm1,
    "log": np.exp,
    "identity": np.positive,
    "sqrt": np.square,
}
TRANSFORMS: Final[tuple[Transform, ...]] = tuple(_ONE)


class Target(Struct, frozen=True):
    """How kcal come out of a tree sum: undo `transform`, then clip to `low`..`high` (kcal, None: no bound)."""

    transform: Transform = "log1p"
    low: float | None = None
    high: float | None = None


def to_kcal(target: Target) -> Callable[[float], float]:
    """Return the function for one tree sum. It raises OverflowError where the result has no float."""
    inverse = _ONE[target.transform]
    low = -math.inf if target.low is None else target.low
    high = math.inf if target.high is None else target.high

    def convert(margin: float) -> float:
        kcal = inverse(margin)
        if kcal < low:
            return low
        return min(kcal, high)  # nan compares as False and passes through, for the caller to refuse

    return convert


def columns_to_kcal(target: Target, margins: NDArray[Any]) -> NDArray[np.float64]:
    """Convert tree sums of shape (n,) at once; overflow becomes infinity."""
    with np.errstate(over="ignore"):
        kcal = _MANY[target.transform](margins.astype(np.float64))
    if target.low is None and target.high is None:
        return np.asarray(kcal)
    clipped: NDArray[np.float64] = np.clip(kcal, target.low, target.high)
    return clipped

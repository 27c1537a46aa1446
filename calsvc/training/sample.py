"""Which rows prove that two scorers agree: ordinary ones, extreme ones, and combinations that nobody has. Pure."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calsvc.http.schema import Workout
from calsvc.model.features import INPUTS

_OUTER: Final = (0.0, 0.01, 0.99, 1.0)
"""Quantiles of which corner combinations are made."""


def ordinary_rows(matrix: NDArray[np.float64], order_by: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return rows of the data, spread evenly over the ranks of `order_by`, and the extremes of every input.

    `matrix` has the raw inputs, shape (n, 7), in the order of `INPUTS`; the result has about `count` rows.
    """
    extremes = np.concatenate([matrix.argmin(axis=0), matrix.argmax(axis=0)])
    spread = np.linspace(0, len(matrix) - 1, max(1, count - len(extremes))).astype(int)
    chosen = np.concatenate([np.argsort(order_by, kind="stable")[spread], extremes])
    return np.asarray(matrix[np.unique(chosen)])


def corners(matrix: NDArray[np.float64], count: int, seed: int = 0) -> NDArray[np.float64]:
    """Return `count` rows that combine outer values of each input's own range, independently: shape (count, 7)."""
    random = np.random.default_rng(seed)
    # Values of the data itself, not interpolated: a whole number of years stays one.
    outer = np.quantile(matrix, _OUTER, axis=0, method="nearest")
    return np.column_stack([random.choice(outer[:, column], count) for column in range(len(INPUTS))])


def ends(rows: NDArray[np.float64], order_by: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return the rows with the lowest and the highest values of `order_by`, `count` of each."""
    order = np.argsort(order_by, kind="stable")
    return np.asarray(rows[np.unique(np.concatenate([order[:count], order[-count:]]))])


def workouts(matrix: NDArray[np.float64]) -> list[Workout]:
    """Return rows of raw inputs as the service would parse them; their ids count from 0."""
    rows = (dict(zip(INPUTS, row, strict=True)) for row in matrix.tolist())
    return [
        Workout(
            id=position,
            Sex="female" if row["female"] else "male",
            Age=row["Age"],
            Height=row["Height"],
            Weight=row["Weight"],
            Duration=row["Duration"],
            Heart_Rate=row["Heart_Rate"],
            Body_Temp=row["Body_Temp"],
        )
        for position, row in enumerate(rows)
    ]

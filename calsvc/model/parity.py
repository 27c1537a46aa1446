"""Does the fast scorer say what the handout says? Pure comparison, and the one error that tells where it does not."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from calsvc.http.errors import ParityMissed
from calsvc.http.schema import Workout

TOLERANCE: Final = 1e-4
"""Largest relative difference that still counts as the same answer."""
FLOOR: Final = 1.0
"""kcal below which the difference counts absolutely (allowing 1e-4 kcal). A tree sum in float32 around 100 carries an
error of about 1e-5, so a prediction near 0 has no four digits to compare, and no workout burns less than 1 kcal."""


class ParitySample(Struct, frozen=True):
    """Rows (Workouts) and the handout's own prediction (kcal) of each, made one row at a time."""

    rows: list[Workout]
    predictions: list[float]


class Parity(NamedTuple):
    """Outcome of a comparison; `worst` is the index of the row that differs most."""

    rows: int
    max_relative_difference: float
    worst: int

    @property
    def held(self) -> bool:
        """True where every row is within `TOLERANCE`."""
        return self.max_relative_difference <= TOLERANCE


def relative_differences(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """Return |ours - theirs| / max(|theirs|, FLOOR) for each row; infinity where either is not a finite number."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        difference: NDArray[Any] = np.abs(a - b) / np.maximum(np.abs(b), FLOOR)
    return np.where(np.isfinite(difference), difference, np.inf)


def compare(ours: ArrayLike, theirs: ArrayLike) -> Parity:
    """Compare two columns of predictions in kcal, of the same shape (n,) with n > 0."""
    differences = relative_differences(ours, theirs)
    worst = int(np.argmax(differences))
    return Parity(len(differences), float(differences[worst]), worst)


def demand(sample: ParitySample, ours: Sequence[float], scorer: str) -> Parity:
    """Return the comparison of `ours` (kcal, one for each row of the sample), made by `scorer`, where it holds.

    Raises:
        ParityMissed: naming the worst row, both numbers and what to do.
    """
    outcome = compare(ours, sample.predictions)
    if outcome.held:
        return outcome
    row, theirs = sample.rows[outcome.worst], sample.predictions[outcome.worst]
    raise ParityMissed(
        f"{scorer} says {ours[outcome.worst]:.6g} kcal where the handout's own predict says {theirs:.6g} kcal for "
        f"{described(row)}: relative difference {outcome.max_relative_difference:.2g}, allowed {TOLERANCE:g} (worst "
        f"of {outcome.rows} rows); a feature may be computed differently there: compare the handout's formulas with "
        "calsvc/model/features.py, or serve its own code, slower, with: just train --engine reference"
    )


def described(row: Workout) -> str:
    """Return a row's inputs as text, `Sex=male Age=41 ...`."""
    numbers = (row.Age, row.Height, row.Weight, row.Duration, row.Heart_Rate, row.Body_Temp)
    names = ("Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp")
    sex = "female" if row.female else "male"
    return " ".join([f"Sex={sex}", *(f"{name}={number:g}" for name, number in zip(names, numbers, strict=True))])

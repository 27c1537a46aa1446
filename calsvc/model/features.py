"""What the trees look at: features by name, from the same formulas for one row of floats and for columns of arrays.

The formulas compute in float64, and the result is cast to float32 once, at the end, as pandas and XGBoost do: trees
compare in float32, often against a value of the training data itself, so a cast too early lands in the other branch.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calsvc.http.errors import UnknownFeatures
from calsvc.http.schema import Workout

INPUTS: Final = ("female", "Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp")
"""Raw inputs by name: attributes of a `Workout` and keys of a column mapping. `female` is 1 or 0 (or a bool)."""


NAMES: Final = (
    "Gender_female", "Gender_male", "Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp",
    "BMI", "Workload", "Duration2", "Heart_Rate2", "log_Duration", "log_Heart_Rate",
    "Temp_Delta", "Intensity", "Workload_per_kg", "Duration_x_BMI", "HR_x_BMI",
)  # fmt: skip
"""Every feature that can be computed, in the order in which `_all_features` returns them."""


def _all_features(raw: Any, clip: Callable[[Any, float, float], Any], log1p: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Compute the features `NAMES` from the raw inputs, which are attributes of `raw`: floats, or arrays of shape (n,).

    One call for all costs a third of a call for each: a booster that asks for fewer gets a selection. `clip` and
    `log1p` come in because they exist once for floats and once for arrays; all else is plain arithmetic.
    """
    female, age, height, weight = raw.female, raw.Age, raw.Height, raw.Weight
    duration, heart_rate, body_temp = raw.Duration, raw.Heart_Rate, raw.Body_Temp
    metres = height / 100.0
    bmi = clip(weight / (metres * metres), 10.0, 60.0)
    workload = duration * heart_rate
    return (
        female * 1.0, 1.0 - female, age, height, weight, duration, heart_rate, body_temp,
        bmi, workload, duration * duration, heart_rate * heart_rate, log1p(duration), log1p(heart_rate),
        body_temp - 36.8, clip(heart_rate / (220.0 - age), 0.2, 2.0), workload / weight,
        duration * bmi, heart_rate * bmi,
    )  # fmt: skip


def _clip(value: float, low: float, high: float) -> float:
    return low if value < low else min(value, high)


_SYNONYMS: Final = {"Sex_female": "Gender_female", "Sex_male": "Gender_male"}
_PREFIXES: Final = ("num__", "cat__", "remainder__")
"""What scikit-learn's ColumnTransformer puts before a name. It says nothing about the value: a step that scales would
keep the name, and the parity proof would refuse it."""


def row_function(names: Sequence[str]) -> Callable[[Workout], tuple[float, ...]]:
    """Return the function that computes the features `names` of one workout, in this order.

    Raises:
        UnknownFeatures: with every name that has no formula.
    """
    select = _selection(names)

    def compute(workout: Workout) -> tuple[float, ...]:
        return select(_all_features(workout, _clip, math.log1p))

    return compute


def columns_function(names: Sequence[str]) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]:
    """Return the function that turns columns (those of `INPUTS`, each of shape (n,)) into (n, len(names)) float32.

    Raises:
        UnknownFeatures: with every name that has no formula.
    """
    select = _selection(names)

    def compute(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        raw = SimpleNamespace(**{name: np.asarray(columns[name], dtype=np.float64) for name in INPUTS})
        values = select(_all_features(raw, np.clip, np.log1p))
        return np.ascontiguousarray(np.stack(values, axis=1), dtype=np.float32)

    return compute


def columns_of(workouts: Iterable[Workout]) -> dict[str, NDArray[np.float64]]:
    """Return workouts as the columns that `columns_function` takes, each of shape (n,)."""
    rows = list(workouts)
    return {name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in INPUTS}


def _selection(names: Sequence[str]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return what picks the features `names` out of all."""
    plain = [plain_name(name) for name in names]
    if unknown := [name for name, known in zip(names, plain, strict=True) if known not in NAMES]:
        raise UnknownFeatures(unknown)
    positions = [NAMES.index(name) for name in plain]
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda features: tuple(features[position] for position in positions)  # itemgetter of one gives no tuple


def plain_name(name: str) -> str:
    """Return the name under which `NAMES` would have the feature."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _SYNONYMS.get(name, name)

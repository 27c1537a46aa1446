"""What the trees look at: one formula per feature name, for one row of floats and for columns of arrays alike.

The formulas compute in float64, and the result is cast to float32 once, at the end, as pandas and XGBoost do: trees
compare in float32, often against a value of the training data itself, so a cast too early lands in the other branch.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calsvc.errors import UnknownFeatures
from calsvc.schema import Workout

INPUTS: Final = ("female", "Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp")
"""Raw inputs by name: attributes of a `Workout` and keys of a column mapping. `female` is 1 or 0 (or a bool)."""


class Ops(NamedTuple):
    """The two functions that exist once for floats and once for arrays; everything else is plain arithmetic."""

    clip: Callable[[Any, float, float], Any]
    log1p: Callable[[Any], Any]


def _clip(value: float, low: float, high: float) -> float:
    return low if value < low else min(value, high)


_ON_FLOATS: Final = Ops(_clip, math.log1p)
_ON_ARRAYS: Final = Ops(np.clip, np.log1p)

Formula = Callable[[Any, Ops], Any]
"""Takes the raw inputs as attributes; returns a float, or an array where the attributes are arrays."""


def _bmi(raw: Any, ops: Ops) -> Any:
    metres = raw.Height / 100.0
    return ops.clip(raw.Weight / (metres * metres), 10.0, 60.0)


FORMULAS: Final[Mapping[str, Formula]] = {
    "Gender_female": lambda raw, _: raw.female * 1.0,
    "Gender_male": lambda raw, _: 1.0 - raw.female,
    "Age": lambda raw, _: raw.Age,
    "Height": lambda raw, _: raw.Height,
    "Weight": lambda raw, _: raw.Weight,
    "Duration": lambda raw, _: raw.Duration,
    "Heart_Rate": lambda raw, _: raw.Heart_Rate,
    "Body_Temp": lambda raw, _: raw.Body_Temp,
    "BMI": _bmi,
    "Workload": lambda raw, _: raw.Duration * raw.Heart_Rate,
    "Duration2": lambda raw, _: raw.Duration * raw.Duration,
    "Heart_Rate2": lambda raw, _: raw.Heart_Rate * raw.Heart_Rate,
    "log_Duration": lambda raw, ops: ops.log1p(raw.Duration),
    "log_Heart_Rate": lambda raw, ops: ops.log1p(raw.Heart_Rate),
    "Temp_Delta": lambda raw, _: raw.Body_Temp - 36.8,
    "Intensity": lambda raw, ops: ops.clip(raw.Heart_Rate / (220.0 - raw.Age), 0.2, 2.0),
    "Workload_per_kg": lambda raw, _: raw.Duration * raw.Heart_Rate / raw.Weight,
    "Duration_x_BMI": lambda raw, ops: raw.Duration * _bmi(raw, ops),
    "HR_x_BMI": lambda raw, ops: raw.Heart_Rate * _bmi(raw, ops),
}
_SYNONYMS: Final = {"Sex_female": "Gender_female", "Sex_male": "Gender_male"}
_PREFIXES: Final = ("num__", "cat__", "remainder__")
"""What scikit-learn's ColumnTransformer puts before a name. It says nothing about the value: a step that scales would
keep the name, and the parity proof would refuse it."""


def row_function(names: Sequence[str]) -> Callable[[Workout], list[float]]:
    """Return the function that computes the features `names` of one workout, in this order.

    Raises:
        UnknownFeatures: with every name that has no formula.
    """
    formulas = _formulas(names)

    def compute(workout: Workout) -> list[float]:
        return [formula(workout, _ON_FLOATS) for formula in formulas]

    return compute


def columns_function(names: Sequence[str]) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]:
    """Return the function that turns columns (those of `INPUTS`, each of shape (n,)) into (n, len(names)) float32.

    Raises:
        UnknownFeatures: with every name that has no formula.
    """
    formulas = _formulas(names)

    def compute(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        raw = SimpleNamespace(**{name: np.asarray(columns[name], dtype=np.float64) for name in INPUTS})
        values = [formula(raw, _ON_ARRAYS) for formula in formulas]
        return np.ascontiguousarray(np.stack(values, axis=1), dtype=np.float32)

    return compute


def columns_of(workouts: Iterable[Workout]) -> dict[str, NDArray[np.float64]]:
    """Return workouts as the columns that `columns_function` takes, each of shape (n,)."""
    rows = list(workouts)
    return {name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in INPUTS}


def _formulas(names: Sequence[str]) -> list[Formula]:
    found = [FORMULAS.get(plain_name(name)) for name in names]
    if unknown := [name for name, formula in zip(names, found, strict=True) if formula is None]:
        raise UnknownFeatures(unknown)
    return [formula for formula in found if formula is not None]


def plain_name(name: str) -> str:
    """Return the name under which `FORMULAS` would have the feature."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _SYNONYMS.get(name, name)

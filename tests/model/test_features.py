"""The formulas, for one row and for columns."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsvc.http.errors import UnknownFeatures
from calsvc.http.schema import Workout
from calsvc.model.features import NAMES, columns_function, columns_of, row_function

WORKOUT = Workout(
    id=1, Sex="female", Age=20.0, Height=200.0, Weight=80.0, Duration=30.0, Heart_Rate=100.0, Body_Temp=40.0
)
workouts = st.builds(
    Workout,
    id=st.integers(0, 9),
    Sex=st.sampled_from(["male", "F", "Female", "m"]),
    Age=st.floats(1, 120),
    Height=st.floats(100, 250),
    Weight=st.floats(20, 350),
    Duration=st.floats(0, 1440, exclude_min=True),
    Heart_Rate=st.floats(25, 250),
    Body_Temp=st.floats(30, 45),
)


@given(st.lists(workouts, min_size=1, max_size=20))
def test_rows_and_columns_agree_to_the_last_bit(rows: list[Workout]) -> None:
    """Each formula gives the same float32 for a row alone and for the row in a column."""
    one_by_one = np.array([row_function(NAMES)(row) for row in rows], dtype=np.float32)
    together = columns_function(NAMES)(columns_of(rows))
    np.testing.assert_array_equal(one_by_one, together)


def bmi(row: Workout) -> float:
    """Kilograms by squared metres, between 10 and 60."""
    return min(max(row.Weight / ((row.Height / 100.0) * (row.Height / 100.0)), 10.0), 60.0)


FORMULAS: dict[str, Callable[[Workout], float]] = {
    "Gender_female": lambda row: float(row.female),
    "Gender_male": lambda row: float(not row.female),
    "Age": lambda row: row.Age,
    "Height": lambda row: row.Height,
    "Weight": lambda row: row.Weight,
    "Duration": lambda row: row.Duration,
    "Heart_Rate": lambda row: row.Heart_Rate,
    "Body_Temp": lambda row: row.Body_Temp,
    "BMI": bmi,
    "Workload": lambda row: row.Duration * row.Heart_Rate,
    "Duration2": lambda row: row.Duration * row.Duration,
    "Heart_Rate2": lambda row: row.Heart_Rate * row.Heart_Rate,
    "log_Duration": lambda row: math.log1p(row.Duration),
    "log_Heart_Rate": lambda row: math.log1p(row.Heart_Rate),
    "Temp_Delta": lambda row: row.Body_Temp - 36.8,
    "Intensity": lambda row: min(max(row.Heart_Rate / (220.0 - row.Age), 0.2), 2.0),
    "Workload_per_kg": lambda row: row.Duration * row.Heart_Rate / row.Weight,
    "Duration_x_BMI": lambda row: row.Duration * bmi(row),
    "HR_x_BMI": lambda row: row.Heart_Rate * bmi(row),
}
"""Each feature on its own, as the handouts write them."""


@given(workouts)
def test_all_at_once_gives_what_each_formula_alone_gives(row: Workout) -> None:
    """To the last bit of a float64, under the right name: a tree may compare with the value next to it."""
    assert dict(zip(NAMES, row_function(NAMES)(row), strict=True)) == {
        name: formula(row) for name, formula in FORMULAS.items()
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cat__Gender_female", 1.0),
        ("cat__Gender_male", 0.0),
        ("num__Age", 20.0),
        ("num__Height", 200.0),
        ("num__Weight", 80.0),
        ("num__Duration", 30.0),
        ("num__Heart_Rate", 100.0),
        ("num__Body_Temp", 40.0),
        ("num__BMI", 20.0),
        ("num__Workload", 3000.0),
        ("num__Duration2", 900.0),
        ("num__Heart_Rate2", 10_000.0),
        ("num__log_Duration", math.log(31)),
        ("num__log_Heart_Rate", math.log(101)),
        ("num__Temp_Delta", 3.2),
        ("num__Intensity", 0.5),
        ("num__Workload_per_kg", 37.5),
        ("num__Duration_x_BMI", 600.0),
        ("num__HR_x_BMI", 2000.0),
    ],
)
def test_each_formula_gives_the_value_computed_by_hand(name: str, value: float) -> None:
    """Every name of the contract has its formula."""
    assert row_function([name])(WORKOUT) == pytest.approx([value], rel=1e-12)


@pytest.mark.parametrize(("height", "weight", "limit"), [(100.0, 350.0, 60.0), (250.0, 20.0, 10.0)])
def test_bmi_stays_within_its_limits(height: float, weight: float, limit: float) -> None:
    """An implausible ratio counts as the limit, in the products too."""
    workout = Workout(
        id=1, Sex="m", Age=30.0, Height=height, Weight=weight, Duration=2.0, Heart_Rate=90.0, Body_Temp=39.0
    )
    assert row_function(["BMI", "num__Duration_x_BMI"])(workout) == (limit, 2 * limit)


def test_names_without_prefix_and_sex_for_gender_are_understood() -> None:
    """A booster that was not trained behind a ColumnTransformer names its columns plainly."""
    assert row_function(["Sex_female", "Gender_male", "remainder__Age"])(WORKOUT) == (1.0, 0.0, 20.0)


def test_the_order_is_that_of_the_names() -> None:
    """Trees know a column by its position, and may look at one column or at the same one twice."""
    for names, row in (
        (["num__Weight", "num__Age"], (80.0, 20.0)),
        (["num__Age"], (20.0,)),
        (["Age", "Weight", "Age"], (20.0, 80.0, 20.0)),
    ):
        assert row_function(names)(WORKOUT) == row
        assert columns_function(names)(columns_of([WORKOUT])).tolist() == [list(row)]


def test_all_unknown_names_are_told_at_once() -> None:
    """A person who has to add formulas wants the whole list."""
    with pytest.raises(UnknownFeatures, match="num__VO2max, poly__Age"):
        columns_function(["num__VO2max", "num__Age", "poly__Age"])

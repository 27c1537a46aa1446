"""The formulas, for one row and for columns."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsvc.errors import UnknownFeatures
from calsvc.model.features import FORMULAS, columns_function, columns_of, row_function
from calsvc.schema import Workout

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
    Duration=st.floats(0.1, 1440),
    Heart_Rate=st.floats(25, 250),
    Body_Temp=st.floats(30, 45),
)


@given(st.lists(workouts, min_size=1, max_size=20))
def test_rows_and_columns_agree_to_the_last_bit(rows: list[Workout]) -> None:
    """Each formula gives the same float32 for a row alone and for the row in a column."""
    names = list(FORMULAS)
    one_by_one = np.array([row_function(names)(row) for row in rows], dtype=np.float32)
    together = columns_function(names)(columns_of(rows))
    np.testing.assert_array_equal(one_by_one, together)


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


@pytest.mark.parametrize(("height", "weight", "bmi"), [(100.0, 350.0, 60.0), (250.0, 20.0, 10.0)])
def test_bmi_stays_within_its_limits(height: float, weight: float, bmi: float) -> None:
    """An implausible ratio counts as the limit, in the products too."""
    workout = Workout(
        id=1, Sex="m", Age=30.0, Height=height, Weight=weight, Duration=2.0, Heart_Rate=90.0, Body_Temp=39.0
    )
    assert row_function(["BMI", "num__Duration_x_BMI"])(workout) == [bmi, 2 * bmi]


def test_names_without_prefix_and_sex_for_gender_are_understood() -> None:
    """A booster that was not trained behind a ColumnTransformer names its columns plainly."""
    assert row_function(["Sex_female", "Gender_male", "remainder__Age"])(WORKOUT) == [1.0, 0.0, 20.0]


def test_the_order_is_that_of_the_names() -> None:
    """Trees know a column by its position."""
    assert row_function(["num__Weight", "num__Age"])(WORKOUT) == [80.0, 20.0]


def test_all_unknown_names_are_told_at_once() -> None:
    """A person who has to add formulas wants the whole list."""
    with pytest.raises(UnknownFeatures, match="num__VO2max, poly__Age"):
        columns_function(["num__VO2max", "num__Age", "poly__Age"])

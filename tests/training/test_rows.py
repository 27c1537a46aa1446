"""Reading CSV files of workouts."""

from pathlib import Path

import numpy as np
import pytest

from calsvc.http.errors import HandoutError
from calsvc.http.schema import Feedback
from calsvc.training.rows import NUMBERS, bounds, read_rows

HEADER = "id,Sex,Age,Height,Weight,Duration,Heart_Rate,Body_Temp,Calories"
GOOD = "7,male,41,174.0,75.0,15.0,95.0,40.0,77.0"


def write(folder: Path, *lines: str, header: str = HEADER) -> Path:
    """Write a CSV and return it."""
    file = folder / "rows of mine.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


def test_inputs_become_numbers_and_cells_stay_text(tmp_path: Path) -> None:
    """A copied row is the same to the last digit."""
    rows = read_rows(write(tmp_path, GOOD, " 8 ,F, 20,174.10,75.0,15.0,95.0,40.0,5"), labelled=True)
    np.testing.assert_array_equal(rows.matrix[1], [1, 20, 174.1, 75, 15, 95, 40])
    assert rows.frame["Height"].to_list() == ["174.0", "174.10"]
    assert rows.target is not None
    assert rows.target.tolist() == [77.0, 5.0]


def test_gender_stands_for_sex(tmp_path: Path) -> None:
    """The service takes either, so do files."""
    rows = read_rows(write(tmp_path, GOOD, header=HEADER.replace("Sex", "Gender")), labelled=False)
    assert rows.columns["female"].tolist() == [0.0]


def test_calories_may_be_missing_where_none_are_needed(tmp_path: Path) -> None:
    """As in a test.csv."""
    file = write(tmp_path, GOOD.rpartition(",")[0], header=HEADER.rpartition(",")[0])
    assert read_rows(file, labelled=False).target is None
    with pytest.raises(HandoutError, match="missing column Calories"):
        read_rows(file, labelled=True)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("8,male,,174,75,15,95,40,77", "line 3, column Age: nothing where a number 1..120"),
        ("8,male,41,NaN,75,15,95,40,77", "line 3, column Height: 'NaN' where"),
        ("8,male,41,174,heavy,15,95,40,77", "line 3, column Weight: 'heavy' where"),
        ("8,male,41,174,75,0,95,40,77", "line 3, column Duration: '0' where a number above 0, up to 1440"),
        ("8,male,41,174,75,15,inf,40,77", "line 3, column Heart_Rate: 'inf' where"),
        ("8,male,41,174,75,15,95,104,77", "line 3, column Body_Temp: '104' where a number 30..45"),
        ("8,male,41,174,75,15,95,40,-1", "line 3, column Calories: '-1' where a number 0..1e"),
        ("8,x,41,174,75,15,95,40,77", "line 3, column Sex: 'x' where male, female"),
        (",male,41,174,75,15,95,40,77", "line 3, column id: nothing where an id"),
        ("7,male,41,174,75,15,95,40,77", "line 3, column id: '7' where an id that no row above has"),
        (" 7 ,male,41,174,75,15,95,40,77", "line 3, column id: '7' where an id that no row above has"),
        (f"{'x' * 65},male,41,174,75,15,95,40,77", "line 3, column id: 'x{65}' where an id of at most 64 characters"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(tmp_path: Path, row: str, told: str) -> None:
    """File, line, column, content, what is expected and what to do, in one line."""
    with pytest.raises(HandoutError, match=told) as caught:
        read_rows(write(tmp_path, GOOD, row), labelled=True)
    assert str(caught.value).startswith(f"{tmp_path / 'rows of mine.csv'}, ")
    assert str(caught.value).endswith("; correct or remove the row")


def test_further_rows_of_the_kind_are_counted(tmp_path: Path) -> None:
    """The person learns whether it is one slip or the whole column."""
    bad = ["8,male,41,174,75,15,95,40,x", "9,male,41,174,75,15,95,40,y"]
    with pytest.raises(HandoutError, match=r"line 2, .*1 more row"):
        read_rows(write(tmp_path, *bad), labelled=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "id,Age\n1,2\n",
            "missing column Height, Weight, Duration, Heart_Rate, Body_Temp, Sex; its header is: id, Age",
        ),
        (HEADER + "\n", "no rows under the header"),
        ("", "cannot be read as CSV"),
        (HEADER + "\n" + GOOD + ",1,2,3\n", "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_no_such_table_is_one_error(tmp_path: Path, text: str, told: str) -> None:
    """Empty, without the columns, without rows, ragged."""
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(HandoutError, match=told):
        read_rows(file, labelled=False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """And a folder is not a file."""
    with pytest.raises(HandoutError, match=r"rows\.csv is missing"):
        read_rows(tmp_path / "rows.csv", labelled=False)
    with pytest.raises(HandoutError, match="cannot be read as CSV"):
        read_rows(tmp_path, labelled=False)


def test_the_bounds_are_those_of_the_service() -> None:
    """What a file may hold, /predict accepts."""
    assert bounds("Height") == (100.0, 250.0)
    assert bounds("Duration")[0] > 0
    assert bounds("Calories", Feedback) == (0.0, 1e6)
    assert all(low < high for low, high in map(bounds, NUMBERS))

"""One CSV file, read alike by holdout and predict on the one side and by the simulator on the other."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calsvc.http.errors import HandoutError
from calsvc.http.schema import parse_workout
from calsvc.training.rows import NUMBERS, read_rows
from streamsim.errors import DataError
from streamsim.rows import Rows
from streamsim.source import encode

HEADER = "id,Sex,Age,Height,Weight,Duration,Heart_Rate,Body_Temp,Calories"
LINES = ["7,male,41,174.0,75.0,15.0,95.0,40.0,77.0", "8,female,20,160.5,55.25,5,90,39.1,20"]
PLAIN = "\n".join([HEADER, *LINES]) + "\n"


def spaced(text: str, before: str = "", after: str = " ") -> str:
    """The same with blanks around each comma."""
    return text.replace(",", f"{before},{after}")


def columns(*order: str) -> str:
    """The same with its columns in another order, or with others."""
    frame = pl.read_csv(PLAIN.encode(), infer_schema=False).with_columns(Gender=pl.col("Sex"), note=pl.lit("a, b"))
    return frame.select(order).write_csv()


ALIKE = {
    "plain": PLAIN,
    "no newline at the end": PLAIN[:-1],
    "CR and LF": PLAIN.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + PLAIN,
    "a blank after each comma": spaced(PLAIN),
    "a blank before each comma": spaced(PLAIN, " ", ""),
    "blanks around each comma": spaced(PLAIN, "  ", "  "),
    "tabs around each comma": spaced(PLAIN, "\t", "\t"),
    "a no-break space after each comma": spaced(PLAIN, "", "\N{NO-BREAK SPACE}"),
    "a byte order mark and blanks": "\ufeff " + spaced(PLAIN),
    "blanks after commas and CR LF": spaced(PLAIN).replace("\n", "\r\n"),
    "blanks at both ends of lines": "".join(f"  {line}  \n" for line in PLAIN.splitlines()),
    "everything quoted": "".join('"' + line.replace(",", '","') + '"\n' for line in PLAIN.splitlines()),
    "quoted blanks": "".join('" ' + line.replace(",", ' "," ') + ' "\n' for line in PLAIN.splitlines()),
    "only the names with blanks": PLAIN.replace(HEADER, spaced(HEADER)),
    "only the cells with blanks": HEADER + "\n" + spaced("\n".join(LINES)),
    "Gender": PLAIN.replace("Sex", "Gender"),
    "Gender with a blank": spaced(PLAIN.replace("Sex", "Gender")),
    "Sex and Gender": columns("id", "Sex", "Gender", *NUMBERS, "Calories"),
    "another order": columns("Calories", *reversed(NUMBERS), "Sex", "id"),
    "another column": columns("id", "note", "Sex", *NUMBERS, "Calories"),
    "letters": PLAIN.replace(",male", ",M").replace(",female", ",f"),
    "capitals": PLAIN.replace(",male", ",MALE").replace(",female", ",Female"),
    "exponents": PLAIN.replace("174.0", "1.74e2").replace("160.5", "1605E-1"),
    "signs": PLAIN.replace(",41,", ",+41,"),
    "leading zeros": PLAIN.replace(",41,", ",041,"),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_both_read_the_same(tmp_path: Path, kind: str) -> None:
    """The same records, sent as the service takes them, and left clean for a train.py that strips nothing."""
    file = tmp_path / "rows.csv"
    file.write_text(ALIKE[kind], encoding="utf-8", newline="")
    rows, sent = read_rows(file, labelled=True), Rows(encode(file, 0))
    workouts = {workout.id: workout for workout in (parse_workout(sent.record(n).body) for n in range(len(sent)))}
    assert rows.frame["id"].to_list() == ["7", "8"] == sorted(map(str, workouts))
    assert rows.target is not None
    assert {json.loads(each.id_json): each.truth for each in map(sent.record, range(2))} == {
        7: rows.target[0],
        8: rows.target[1],
    }
    for at, number in enumerate((7, 8)):
        workout = workouts[number]
        assert [workout.female, *(getattr(workout, name) for name in NUMBERS)] == rows.matrix[at].tolist()
    plain = read_rows(write(tmp_path / "plain.csv", PLAIN), labelled=True)
    np.testing.assert_array_equal(rows.matrix, plain.matrix)
    kept = rows.frame.select("id", pl.col("^Sex|Gender$"), *NUMBERS, "Calories")
    assert kept.columns == [each.strip() for each in kept.columns]
    assert all(cell == cell.strip() for row in kept.rows() for cell in row)


def write(file: Path, text: str | bytes) -> Path:
    """Write a file and return it."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


REFUSED = {
    "nothing": "",
    "only a header": HEADER + "\n",
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "commas in numbers": PLAIN.replace(",", ";").replace(".", ","),
    "another encoding": PLAIN.replace("male", "mâle").encode("latin-1"),
    "UTF-16": PLAIN.encode("utf-16"),
    "no header": "\n".join(LINES),
    "a name twice": PLAIN.replace("Heart_Rate", "Age"),
    "a name twice but for a blank": PLAIN.replace("Heart_Rate", " Age"),
    "a used name twice but for a blank": PLAIN.replace(HEADER, HEADER + ", Age")
    .replace("77.0", "77.0,3")
    .replace(",20\n", ",20,3\n"),
    "small letters": PLAIN.replace(HEADER, HEADER.lower()),
    "an id twice": PLAIN.replace("\n8,", "\n7,"),
    "an id twice but for a blank": PLAIN.replace("\n8,", "\n 7 ,"),
    "no id": PLAIN.replace("\n8,", "\n ,"),
    "a cell too many": PLAIN.replace(",20\n", ",20,5\n"),
    "an empty number": PLAIN.replace("174.0", " "),
    "no number": PLAIN.replace("174.0", "tall"),
    "a unit": PLAIN.replace("174.0", "174 cm"),
    "nan": PLAIN.replace("174.0", "nan"),
    "infinite": PLAIN.replace("174.0", "inf"),
    "no sex": PLAIN.replace("female", ""),
    "no truth": PLAIN.replace(",20\n", ",\n"),
    "a negative truth": PLAIN.replace(",20\n", ",-20\n"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_both_refuse_the_same(tmp_path: Path, kind: str) -> None:
    """With one line that names the file."""
    file = write(tmp_path / "rows.csv", REFUSED[kind])
    for read, error in ((lambda: read_rows(file, labelled=True), HandoutError), (lambda: encode(file, 0), DataError)):
        with pytest.raises(error) as caught:
            read()
        assert str(caught.value).startswith(str(file))
        assert "\n" not in str(caught.value)

"""Rows come from a CSV file whole, once each, in a seeded order; anything else is refused by name."""

import json
from pathlib import Path

import pytest

from calsvc.http.schema import parse_feedback, parse_workout
from streamsim.errors import DataError
from streamsim.rows import Rows
from streamsim.source import encode, load
from tests.streamsim.conftest import HEADER

GOOD = "1,male,40,170,70,10,100,39.5,50"


def write(folder: Path, *lines: str) -> Path:
    """Write a CSV file."""
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_row_is_replayed_once_a_lap_with_its_truth(csv: Path):
    """Fifty records carry fifty ids, each with the truth and the features of its row."""
    rows = load(csv, seed=0)
    records = [rows.record(n) for n in range(len(rows))]
    bodies = [json.loads(record.body) for record in records]
    assert sorted(body["id"] for body in bodies) == list(range(1, 51))
    for record, body in zip(records, bodies, strict=True):
        assert json.loads(record.id_json) == body["id"]
        assert record.truth == body["id"] + 0.5
        assert body["Age"] == 20 + body["id"]
        assert list(body) == ["id", "Sex", "Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp"]


def test_the_seed_decides_the_order(csv: Path):
    """The same seed gives the same order, another one another order."""
    assert encode(csv, 1) == encode(csv, 1)
    assert encode(csv, 1) != encode(csv, 2)
    assert sorted(encode(csv, 1).splitlines()) == sorted(encode(csv, 2).splitlines())


def test_later_laps_never_reuse_an_id(csv: Path):
    """The second lap sends the same rows as texts made of id and lap."""
    rows = Rows(encode(csv, 0))
    first, again = rows.record(3), rows.record(53)
    assert json.loads(again.id_json) == f"{json.loads(first.id_json)}.1"
    assert json.loads(again.body) == json.loads(first.body) | {"id": json.loads(again.id_json)}
    assert len({rows.record(n).id_json for n in range(500)}) == 500


@pytest.mark.parametrize("kind", ["x", "é", "\N{GREEN HEART}", '""', "\\", "7", "~", "."])
@pytest.mark.parametrize("length", [1, 52, 53, 54, 55, 62, 63, 64])
def test_the_service_takes_the_ids_of_every_lap(tmp_path: Path, kind: str, length: int):
    """However long a row's id is and whatever it is made of: all laps of all rows have ids of their own that fit."""
    ids = [kind * (length - 1) + last for last in "ab"]
    rows = Rows(encode(write(tmp_path, HEADER, *(f'"{each}"{GOOD[1:]}' for each in ids)), 0))
    laps = [*range(1, 12), 10**9, 10**9 + 1, 2**31]
    records = [rows.record(number, lap) for lap in (0, *laps) for number in range(2)]
    taken = [parse_workout(record.body).id for record in records]
    assert set(taken[:2]) == {each.replace('""', '"') for each in ids}
    assert len(set(taken)) == len(records)
    assert taken == [json.loads(record.id_json) for record in records]
    assert taken == [parse_feedback(b'{"id":%b,"Calories":1}' % record.id_json.encode()).id for record in records]


def test_an_id_that_is_shortened_is_shortened_alike_in_every_run(tmp_path: Path):
    """Its beginning, a digest of all of it, and the lap."""
    path = write(tmp_path, HEADER, "x" * 64 + GOOD[1:])
    first, again = (Rows(encode(path, seed)).record(1).id_json for seed in (0, 1))
    assert first == again == '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx~a10e54e0536e9a3c.1"'


def test_text_ids_and_gender_are_sent_as_they_are(tmp_path: Path):
    """An id that is no canonical whole number stays text, quotes, tabs and all."""
    path = write(tmp_path, HEADER.replace("Sex", "Gender"), '"a\tc""",F,40,170,70,10,100,39.5,50')
    rows = Rows(encode(path, 0))
    assert json.loads(rows.record(0).body)["id"] == 'a\tc"'
    assert json.loads(rows.record(1).body)["id"] == 'a\tc".1'
    assert json.loads(rows.record(0).body)["Gender"] == "F"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([HEADER, GOOD, "2,male,40,170,70,10,nan,39.5,50"], "row 2 (line 3), column Heart_Rate: 'nan'"),
        ([HEADER, "2,male,40,170,70,10,100,39.5,"], "row 1 (line 2), column Calories: 'empty'"),
        ([HEADER, "2,male,forty,170,70,10,100,39.5,50"], "column Age: 'forty'"),
        ([HEADER, "2,male,1e999,170,70,10,100,39.5,50"], "column Age: '1e999'"),
        ([HEADER, "2,,40,170,70,10,100,39.5,50"], "column Sex: 'empty'"),
        ([HEADER, ",male,40,170,70,10,100,39.5,50"], "column id: 'empty'"),
        ([HEADER, GOOD, GOOD], "row 2 (line 3), column id: '1' is not unique"),
        ([HEADER, GOOD.replace("1,", "x,", 1), GOOD.replace("1,", "x.2,", 1)], "'x.2' is not unique"),
        ([HEADER, "x" * 65 + GOOD[1:]], "is longer than 64"),
        ([HEADER], "a header and no rows"),
        ([HEADER.replace(",Calories", ""), "1,male,40,170,70,10,100,39.5"], "column Calories is missing"),
        ([HEADER.replace("Sex", "S"), GOOD], "column Sex (or Gender) is missing"),
        ([""], "not readable as CSV"),
    ],
)
def test_unusable_rows_are_named(tmp_path: Path, lines: list[str], named: str):
    """The error names file, row and column, also across the process that reads the file."""
    path = write(tmp_path, *lines)
    with pytest.raises(DataError) as caught:
        encode(path, 0)
    assert str(caught.value).startswith(f"{path}: ")
    assert named in str(caught.value)


def test_the_reading_process_hands_its_error_on(tmp_path: Path):
    """What the child says is what the parent raises."""
    path = write(tmp_path, HEADER)
    with pytest.raises(DataError, match="a header and no rows") as caught:
        load(path, 0)
    assert str(caught.value) == f"{path}: it has a header and no rows"


def test_a_missing_file_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The default file comes from `just holdout`; any other has to be given."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="run: just holdout"):
        load(Path("data/holdout/stream.csv"), 0)
    with pytest.raises(DataError, match="give --data"):
        load(Path("other.csv"), 0)

"""Setting rows aside."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calsvc.http.errors import HandoutError
from calsvc.training.rows import read_rows
from calsvc.training.split import Split, existing_split, make_split, streamed_rows
from tests.handouts import write_handout

INPUTS = ["Sex", "Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp"]


@pytest.fixture
def handout(tmp_path: Path) -> Path:
    """A handout that nobody trains."""
    return write_handout(tmp_path / "hand out")


def split(handout: Path, out: Path, seed: int = 0, data: Path | None = None) -> Split:
    """Split with a fixed fraction."""
    return make_split(handout, out, data=data, fraction=0.25, seed=seed)


def with_twins(handout: Path, file: Path) -> Path:
    """Write the handout's rows twice, the second time with other ids and other truth."""
    rows = pl.read_csv(handout / "data_sample" / "train.csv")
    pl.concat([rows, rows.with_columns(id=pl.col("id") + 100_000, Calories=pl.col("Calories") + 1)]).write_csv(file)
    return file


def test_every_row_lands_on_one_side_unchanged(handout: Path, tmp_path: Path) -> None:
    """Nothing is lost, doubled, or written differently."""
    told = split(handout, tmp_path / "out")
    source = (handout / "data_sample" / "train.csv").read_text().splitlines()
    train = (tmp_path / "out" / "train.csv").read_text().splitlines()
    stream = (tmp_path / "out" / "stream.csv").read_text().splitlines()
    assert source[0] == train[0] == stream[0]
    assert sorted(source[1:]) == sorted(train[1:] + stream[1:])
    assert (told.train_rows, told.stream_rows) == (len(train) - 1, len(stream) - 1)
    assert 0.2 < told.stream_rows / (len(source) - 1) < 0.3


def test_the_same_workout_is_never_on_both_sides(handout: Path, tmp_path: Path) -> None:
    """The stream must not replay what was trained on, under whatever id."""
    split(handout, tmp_path / "out", data=with_twins(handout, tmp_path / "twins.csv"))
    train, stream = (pl.read_csv(tmp_path / "out" / f"{name}.csv").select(INPUTS) for name in ("train", "stream"))
    assert stream.join(train, on=INPUTS, how="semi").is_empty()
    assert len(train) + len(stream) == 1200


def test_the_split_is_the_same_again_and_another_with_another_seed(handout: Path) -> None:
    """The seed decides, not the day or the order of the rows."""
    rows = read_rows(handout / "data_sample" / "train.csv", labelled=True)
    first = streamed_rows(rows, 0.25, 0)
    np.testing.assert_array_equal(first, streamed_rows(rows, 0.25, 0))
    assert (first != streamed_rows(rows, 0.25, 1)).any()
    backwards = rows._replace(columns={name: values[::-1] for name, values in rows.columns.items()})
    np.testing.assert_array_equal(first[::-1], streamed_rows(backwards, 0.25, 0))


def test_it_says_where_the_rows_came_from(handout: Path, tmp_path: Path) -> None:
    """And is recognised by it later."""
    told = split(handout, tmp_path / "out", seed=3)
    assert existing_split(tmp_path / "out") == told
    assert (told.seed, told.fraction) == (3, 0.25)
    assert (tmp_path / "out" / "test.csv").read_bytes() == (handout / "data_sample" / "test.csv").read_bytes()


def test_a_folder_of_data_is_as_good_as_a_file(handout: Path, tmp_path: Path) -> None:
    """Its train.csv is meant."""
    assert split(handout, tmp_path / "out", data=handout / "data_sample") == split(handout, tmp_path / "out")


def test_an_incomplete_split_is_none(handout: Path, tmp_path: Path) -> None:
    """Without one of its files, or interrupted while it was replaced."""
    out = tmp_path / "out"
    assert existing_split(out) is None
    split(handout, out)
    (out / "split.json").write_bytes(b"")
    assert existing_split(out) is None
    split(handout, out)
    (out / "stream.csv").unlink()
    assert existing_split(out) is None


def test_the_handouts_own_rows_are_not_overwritten(handout: Path, tmp_path: Path) -> None:
    """Neither in the handout nor in any folder that no split made."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("precious")
    for out in (handout / "data_sample", handout / "new", tmp_path / "mine"):
        with pytest.raises(HandoutError, match="was not made by just holdout"):
            split(handout, out)
    assert (tmp_path / "mine" / "train.csv").read_text() == "precious"
    assert not (handout / "new").exists()


def test_a_place_that_cannot_be_written_is_one_error(handout: Path, tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HandoutError, match="cannot write the split to"):
        split(handout, tmp_path / "file" / "out")


def test_too_few_rows_to_split_are_refused(tmp_path: Path) -> None:
    """One side would be empty."""
    handout = write_handout(tmp_path / "handout", rows=4)
    train = handout / "data_sample" / "train.csv"
    train.write_text("\n".join(train.read_text().splitlines()[:2]) + "\n")
    with pytest.raises(HandoutError, match=r"1 rows cannot be split with --fraction 0\.25"):
        split(handout, tmp_path / "out")

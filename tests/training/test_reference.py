"""Handouts that only their own code can answer: what they are asked, and whether they agree with themselves."""

from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import numpy as np
import pandas as pd
import pytest

from calsvc.handout.frame import CsvForm, frame_of
from calsvc.http.schema import Workout
from calsvc.model.bundle import Bundle, load_bundle
from calsvc.model.scorer import open_scorer
from calsvc.settings import Settings
from calsvc.training.batch import predict_rows
from calsvc.training.export import Draft, export
from calsvc.training.form import read_form
from calsvc.training.publish import publish
from calsvc.training.rows import read_rows
from tests.conftest import run_module
from tests.handouts import write_handout
from tests.making import replace_in, silent, train

TRAIN = """
import argparse, json
from pathlib import Path

import joblib
import pandas as pd

from model import Model

parser = argparse.ArgumentParser()
for name in ("data-dir", "config", "out", "metrics"):
    parser.add_argument("--" + name, type=Path)
args = parser.parse_args()
rows = pd.read_csv(args.data_dir / "train.csv").drop(columns=["Calories", "Note"], errors="ignore")
joblib.dump(Model(rows), args.out)
args.metrics.write_text("{}")
"""
PEDANT = """
from pathlib import Path


class Model:
    def __init__(self, rows):
        self.types = rows.dtypes.to_dict()
        self.words = {name: set(rows[name]) for name in ("Sex", "Gender") if name in rows}

    def predict(self, df):
        assert list(df.columns) == list(self.types), list(df.columns)
        assert df.dtypes.to_dict() == self.types, df.dtypes.to_dict()
        for name, words in self.words.items():
            assert set(df[name]) <= words, set(df[name])
        assert not list(Path().iterdir()), Path.cwd()
        female = df[list(self.words)[0]].str.strip().str.upper().str.startswith("F")
        return 2.0 * df["Age"] + df["Duration"] + 7.0 * female
"""
"""Refuses any frame that its CSV could not have been, and a working directory in which there is something."""
GIVEN = "return self.base + self.slope * df['Duration'] + 50.0 * male"
DUMMIES = f"""
import pandas as pd


class Model:
    base, slope = 20.0, 3.0

    def __init__(self, rows):
        pass

    def predict(self, df):
        male = pd.get_dummies(df["Sex"], drop_first=True).reindex(columns=["male"], fill_value=0)["male"]
        {GIVEN}
"""


def handout_of(folder: Path, model: str, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows) -> Path:
    """Write a handout of this model.py, whose CSV files are changed ones."""
    handout = write_handout(folder / "hand out", rows=200)
    (handout / "train.py").write_text(TRAIN)
    (handout / "model.py").write_text(model)
    for file in (handout / "data_sample").iterdir():
        change(pd.read_csv(file)).to_csv(file, index=False)
    return handout


def exported(handout: Path, folder: Path) -> tuple[Draft, Path]:
    """Train a handout and export it for the worker; return the draft and the folder of the split."""
    source, holdout = train(handout, folder)
    return export("reference", source, silent, rows=20), holdout


def both_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Sex in one set of words, and Gender in another."""
    rows.insert(1, "Gender", rows["Sex"].str[0].str.upper())
    return rows


CSVS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "Gender": lambda rows: rows.rename(columns={"Sex": "Gender"}),
    "both columns": both_columns,
    "M and F": lambda rows: rows.assign(Sex=rows["Sex"].str[0].str.upper()),
    "capitals": lambda rows: rows.assign(Sex=rows["Sex"].str.title()),
    "a blank before the words": lambda rows: rows.assign(Sex=" " + rows["Sex"]),
    "one sex": lambda rows: rows[rows["Sex"] == "female"].assign(Sex="FEMALE"),
    "another order": lambda rows: (
        rows[["Body_Temp", "Age", "Heart_Rate", "Sex", "Weight", "Duration", "Height", "id"]].assign(
            Calories=rows["Calories"]
        )
        if "Calories" in rows
        else rows
    ),
    "other types": lambda rows: rows.assign(
        id="w" + rows["id"].astype(str), Age=rows["Age"] + 0.5, Height=rows["Height"].round().astype(int)
    ),
    "one more column": lambda rows: rows.assign(Note="x, y"),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=[] if each == "Gender" else pytest.mark.slow) for each in CSVS]
)
def test_the_worker_asks_what_export_asked(tmp_path: Path, kind: str) -> None:
    """Columns, their order, types and words are those of the CSV that the handout learned from."""
    handout = handout_of(tmp_path, PEDANT, CSVS[kind])
    draft, holdout = exported(handout, tmp_path)
    bundle = publish(draft.manifest, draft.files, tmp_path / "bundle")
    settings = Settings(handout_dir=handout, model=bundle.folder)
    anyio.run(open_and_close, bundle, settings)
    rows = read_rows(holdout / "stream.csv", labelled=True).first(10)
    expected = 2.0 * rows.columns["Age"] + rows.columns["Duration"] + 7.0 * rows.columns["female"]
    np.testing.assert_allclose(predict_rows(bundle, settings, rows), expected)
    assert draft.warnings == ()


async def open_and_close(bundle: Bundle, settings: Settings) -> None:
    """Open the worker, which repeats the parity sample."""
    await (await open_scorer(bundle, settings)).aclose()


def test_a_fraction_is_not_cut_off_where_the_csv_has_whole_numbers() -> None:
    """`/predict` takes 41.5 years; a CSV with such a row would have a column of floats."""
    form = CsvForm({"id": "int64", "Gender": "object", "Age": "int64"}, {"Gender": ("M", "F")})
    row = Workout(id="a", Sex="f", Age=41.5, Height=174.0, Weight=75.0, Duration=15.0, Heart_Rate=95.0, Body_Temp=40.0)
    frame = frame_of(form, [row])
    assert frame.to_dict("list") == {"id": [0], "Gender": ["F"], "Age": [41.5]}
    whole = frame_of(form, [msgspec.structs.replace(row, Age=41.0)])
    assert whole["Age"].dtype == "int64"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("M", "F", "male", "M"), ("M", "F")),
        (("Male", "Male"), ("Male", "Female")),
        (("f", "f"), ("m", "f")),
        (("FEMALE", " FEMALE"), ("MALE", "FEMALE")),
    ],
)
def test_the_words_are_those_of_the_csv(tmp_path: Path, words: tuple[str, ...], expected: tuple[str, str]) -> None:
    """The most frequent ones; where a sex is missing, a word in the manner of the other one."""
    file = tmp_path / "rows.csv"
    lines = [f"{n},{word},41,174,75,15,95,40,77" for n, word in enumerate(words)]
    file.write_text("\n".join(["id,Gender,Age,Height,Weight,Duration,Heart_Rate,Body_Temp,Calories", *lines]))
    assert read_form(file, read_rows(file, labelled=True)).words == {"Gender": expected}


INCONSISTENT = {
    "get_dummies": ("male = pd.get_dummies", "male = pd.get_dummies"),
    "batch mean": (GIVEN, "return self.base + 3.0 * (df['Duration'] - df['Duration'].mean())"),
    "ranks": (GIVEN, "return self.base + df['Duration'].rank()"),
    "order": (GIVEN, "return self.base + df['Duration'].cumsum()"),
    "sorted answers": (GIVEN, "return sorted(self.base + 3.0 * df['Duration'])"),
    "neighbours": (GIVEN, "return self.base + df['Duration'].shift(fill_value=0)"),
    "nan": (GIVEN, "return df['Duration'] * float('nan') if len(df) > 1 else [1.0]"),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=[] if each == "get_dummies" else pytest.mark.slow) for each in INCONSISTENT]
)
def test_a_handout_that_contradicts_itself_is_not_called_right(tmp_path: Path, kind: str) -> None:
    """Rows alone, in a batch and in the opposite order have different answers: a warning with the worst row."""
    old, new = INCONSISTENT[kind]
    assert old in DUMMIES
    draft, _ = exported(handout_of(tmp_path, DUMMIES.replace(old, new)), tmp_path)
    (warning,) = draft.warnings
    assert warning.startswith("the handout's own predict contradicts itself: Sex=")
    assert "(the worst row)" in warning
    assert "Duration=" in warning
    difference = draft.manifest.parity.max_relative_difference
    assert difference is None or difference > draft.manifest.parity.tolerance


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("return [self.base + 3.0 * float(df['Duration'].item())]", "fails on 20 rows: ValueError"),
        ("return [self.base]", "gives 1 numbers for 20 rows"),
        ("return [self.base] * (len(df) if len(df) < 2 else 2 * len(df))", "gives 40 numbers for 20 rows"),
    ],
)
def test_a_handout_that_takes_no_batch_is_told_apart(tmp_path: Path, answer: str, told: str) -> None:
    """Nothing then says that its answers are right."""
    draft, _ = exported(handout_of(tmp_path, DUMMIES.replace(GIVEN, answer)), tmp_path)
    (warning,) = draft.warnings
    assert "is unknown: the handout's own predict" in warning
    assert (
        told.replace("20", str(draft.manifest.parity.rows)).replace("40", str(2 * draft.manifest.parity.rows))
        in warning
    )
    assert draft.manifest.parity.max_relative_difference is None


@pytest.mark.slow
def test_training_tells_of_the_contradiction(tmp_path: Path) -> None:
    """With either way to the engine; the words `right` and `proven` are not said."""
    handout_of(tmp_path, DUMMIES)
    for engine in ("reference", "auto"):
        told = run_module(
            tmp_path, "calsvc.training.train", "--no-track", "--engine", engine, CALSVC_HANDOUT_DIR="hand out"
        )
        assert told.returncode == 0, told.stderr
        assert "warning: the handout's own predict contradicts itself: Sex=" in told.stderr
        assert "parity         not held: " in told.stdout
        assert "right" not in told.stdout + told.stderr
        assert load_bundle(tmp_path / "data" / "bundle").manifest.engine == "reference"


@pytest.mark.slow
def test_a_refusal_of_the_trees_says_that_the_handout_contradicts_itself(tmp_path: Path) -> None:
    """Not only that a formula may differ."""
    handout = write_handout(tmp_path / "hand out")
    female = '.startswith("f")'
    replace_in(handout / "model.py", female, female + " & (len(df) > 1)")
    told = run_module(tmp_path, "calsvc.training.train", "--no-track", CALSVC_HANDOUT_DIR="hand out")
    assert told.returncode == 1
    assert "allowed 0.0001" in told.stderr
    assert "the handout's own predict contradicts itself: Sex=" in told.stderr

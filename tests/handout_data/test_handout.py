"""The shipped handout as its author left it: it trains, predicts and streams, and stays as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HANDOUT = Path(__file__).parents[2] / "handout_from DS_agent"
FILES = {
    "MODEL_CARD.md", "README.md", "SCHEMA.md", "config.yaml", "data_sample/test.csv", "data_sample/train.csv",
    "model.py", "predict.py", "stream_predict.py", "train.py",
}  # fmt: skip
Spoil = Callable[[str], str]
RECORD = {"Age": 30, "Height": 165, "Weight": 60, "Duration": 20, "Heart_Rate": 100, "Body_Temp": 40.5}


def run(script: Path, *arguments: object, stdin: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of a handout in `cwd`, with one thread, letting it leave compiled files if it would."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, str(script), *map(str, arguments)]
    streams = {"input": stdin, "capture_output": True, "text": True}
    return subprocess.run(command, cwd=cwd, env=environ, check=False, **streams)


def files_in(folder: Path) -> set[str]:
    """Return the paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the handout to where it may be spoilt, under a path with spaces."""
    return shutil.copytree(HANDOUT, tmp_path_factory.mktemp("inbox") / "a copy of it")


@pytest.fixture(scope="module")
def trained(copy: Path) -> Path:
    """Train the copy once, in another directory; return that directory."""
    cwd = copy.parent / "elsewhere"
    cwd.mkdir()
    done = run(copy / "train.py", "--out", cwd / "model.joblib", "--metrics", cwd / "metrics.json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd


def test_handout_holds_its_files_and_nothing_else():
    """The folder is complete, and no compiled file or artefact lies in it."""
    assert files_in(HANDOUT) == FILES


def test_training_writes_the_artefact_and_the_metrics_only(copy: Path, trained: Path):
    """After training, two new files are outside of the handout and none inside."""
    assert files_in(copy) == FILES
    assert {"model.joblib", "metrics.json"} <= files_in(trained)


def test_metrics_are_those_of_the_model_card(copy: Path, trained: Path):
    """Validation RMSLE lies where it was aimed at, and the model card shows what was measured."""
    metrics = json.loads((trained / "metrics.json").read_text())
    card = (copy / "MODEL_CARD.md").read_text()
    assert 0.05 < metrics["valid_rmsle"] < 0.08
    stated = re.search(r"^\| validation \| ([0-9.]+) \|", card, re.MULTILINE)
    # Another processor or library version may move the last digits.
    assert stated is not None
    assert metrics["valid_rmsle"] == pytest.approx(float(stated[1]), abs=0.001)
    assert metrics["n_trees"] == metrics["best_iteration"] + 1


def test_stream_and_file_give_the_same_answer(copy: Path, trained: Path):
    """A row of test.csv gets the same calories alone in a stream as among all rows of the file."""
    model = ("--model", trained / "model.joblib")
    assert run(copy / "predict.py", *model, "--out", trained / "answers.csv", cwd=trained).returncode == 0
    header, first, *_ = (trained / "answers.csv").read_text().splitlines()
    names, row, *_ = (copy / "data_sample" / "test.csv").read_text().splitlines()
    record = dict(zip(names.split(","), row.split(","), strict=True))
    done = run(copy / "stream_predict.py", *model, stdin=json.dumps(record), cwd=trained)
    assert header == "id,Calories"
    assert json.loads(done.stdout)["Calories"] == pytest.approx(float(first.split(",")[1]), abs=1e-3)
    assert files_in(copy) == FILES


def test_stream_reads_every_spelling_of_sex_and_names_what_it_cannot(copy: Path, trained: Path):
    """Sex or Gender, any case, long or short give one answer; another word is reported and skipped."""
    spellings = [{"Sex": "female"}, {"Gender": "F"}, {"Sex": "Female", "Gender": "f"}, {"Sex": "robot"}]
    lines = [json.dumps({"id": i, **RECORD, **spelling}) for i, spelling in enumerate(spellings)]
    arguments = ("--model", trained / "model.joblib")
    done = run(copy / "stream_predict.py", *arguments, stdin="\n".join(lines), cwd=trained)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [0, 1, 2]
    assert len({answer["Calories"] for answer in answers}) == 1
    assert "line 4: column Sex: cannot read 'robot'" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("Weight", "Wait", 1), "missing column: Weight"),
        (lambda text: text.replace(",178.0,", ",,", 1), "column Height: 1 rows without a finite number"),
    ],
)
def test_training_refuses_bad_data_by_the_columns_name(spoil: Spoil, message: str, tmp_path: Path):
    """A missing column or number ends the training with its column's name, an exit code and no artefact."""
    text = (HANDOUT / "data_sample" / "train.csv").read_text()
    (tmp_path / "train.csv").write_text(spoil(text))
    outputs = ("--out", tmp_path / "m.joblib", "--metrics", tmp_path / "m.json")
    done = run(HANDOUT / "train.py", "--data-dir", tmp_path, *outputs, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (1, True)
    assert files_in(tmp_path) == {"train.csv"}

"""The builder of small handouts: each variation trains, and differs from the others as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest

from tests import handouts

pytestmark = pytest.mark.slow

# Exit code, whether there is an artefact, and what train.py left in its own folder.
OUTCOMES = {
    "no_train": (2, False, set()),
    "no_artefact": (0, False, set()),
    "nan_data": (1, False, set()),
    "train_crash": (1, False, set()),
    "train_writes_into_itself": (0, True, {"train.log"}),
}


def train(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the handout's train.py without leaving compiled files; outputs go beside the folder."""
    outputs = ["--out", str(folder.parent / "m.joblib"), "--metrics", str(folder.parent / "m.json")]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", str(folder / "train.py"), *outputs]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def estimator(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train a handout with the test's keywords and load its artefact; `rows` holds its test.csv."""
    folder = handouts.write_handout(tmp_path / "a handout", **request.param)
    done = train(folder)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    loaded = joblib.load(tmp_path / "m.joblib")
    loaded.rows = pd.read_csv(folder / "data_sample" / "test.csv")
    yield loaded
    sys.modules.pop("model", None)


def variation(**keywords: object) -> pytest.MarkDecorator:
    """Parametrize `estimator` with one set of keywords for write_handout."""
    return pytest.mark.parametrize("estimator", [keywords], indirect=True, ids=[""])


@variation(features=handouts.ALL_FEATURES[::-1], extra_feature="num__Age_cubed_mod7")
def test_booster_names_the_features_asked_for(estimator: Any):
    """Order, subset and the unknown name are those of the booster."""
    expected = [*handouts.ALL_FEATURES[::-1], "num__Age_cubed_mod7"]
    assert estimator.booster.feature_names == expected
    assert estimator.used == estimator.best + 1


@variation(trees="all", clip=(20.0, 150.0))
def test_all_trees_are_more_than_the_best_and_answers_are_clipped(estimator: Any):
    """Training goes on past the best round, all of it is used, and answers keep within the limits."""
    answers = estimator.predict(estimator.rows)
    assert estimator.used == estimator.booster.num_boosted_rounds() > estimator.best + 1
    assert (answers.min(), answers.max()) == (20.0, 150.0)


@variation(trees="half", target="identity", nested=True)
def test_nested_booster_is_reached_through_the_pipeline_only(estimator: Any):
    """The booster hides in a Pipeline, and half of its trees answer in kcal without a logarithm."""
    booster = estimator.pipeline[-1].get_booster()
    assert not hasattr(estimator, "booster")
    assert estimator.used == booster.num_boosted_rounds() // 2
    assert list(estimator.pipeline[:-1].transform(estimator.rows)) == list(handouts.SOME_FEATURES)
    assert 60 < estimator.predict(estimator.rows).mean() < 120


@variation(batch_median=1.02)
def test_batch_median_makes_a_row_depend_on_its_neighbours(estimator: Any):
    """A row with a high heart rate gets another answer alone than among the others."""
    highest = estimator.rows["Heart_Rate"].idxmax()
    alone = estimator.predict(estimator.rows.loc[[highest]])[0]
    assert alone != pytest.approx(estimator.predict(estimator.rows)[highest], rel=1e-3)


@pytest.mark.parametrize("break_", OUTCOMES)
def test_broken_handouts_break_as_they_say(break_: handouts.Break, tmp_path: Path):
    """Each way to break shows in the exit code, the message, the artefact or the folder."""
    folder = handouts.write_handout(tmp_path / "broken", break_=break_)
    before = {path.name for path in folder.iterdir()}
    done = train(folder)
    added = {path.name for path in folder.iterdir()} - before
    assert (done.returncode, (tmp_path / "m.joblib").exists(), added) == OUTCOMES[break_]
    assert break_ != "nan_data" or "column Heart_Rate" in done.stderr

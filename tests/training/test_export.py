"""Handouts that differ in what nobody wrote down, each exported with its proof."""

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calsvc.handout.artefact import opened_artefact, predicted
from calsvc.http.errors import ExportError, ParityMissed, UnknownFeatures
from calsvc.model.parity import TOLERANCE, compare
from calsvc.model.target import Target
from calsvc.settings import Settings
from calsvc.training.batch import predict_rows
from calsvc.training.export import Draft, export
from calsvc.training.publish import publish
from calsvc.training.rows import read_rows
from tests.handouts import ALL_FEATURES, SOME_FEATURES, write_handout
from tests.making import Trained, real_rows, replace_in, silent, train
from tests.needs import needs

FEW = 100


def exported(folder: Path, **variation: Any) -> tuple[Draft, Trained]:
    """Write, train and export a handout; its bundle lies in `folder/bundle`."""
    handout = write_handout(folder / "handout", **variation)
    source, holdout = train(handout, folder)
    draft = export("onnx", source, silent, rows=FEW)
    return draft, Trained(handout, holdout, source.trained, publish(draft.manifest, draft.files, folder / "bundle"))


def worst_difference(made: Trained, rows: int) -> float:
    """Compare the bundle's batch predictions of held-out rows with the handout's own, asked one by one."""
    stream = made.holdout / "stream.csv"
    ours = predict_rows(made.bundle, Settings(), read_rows(stream, labelled=True).first(rows))
    frame = pd.read_csv(stream).drop(columns="Calories")
    with opened_artefact(made.handout, made.artefact.file) as artefact:
        theirs = [predicted(artefact, frame.iloc[[position]]) for position in range(len(ours))]
    return compare(ours, theirs).max_relative_difference


@pytest.mark.parametrize(
    ("variation", "target"),
    [
        ({"trees": "half", "features": ALL_FEATURES[::-1]}, Target("log1p")),
        pytest.param({"trees": "best"}, Target("log1p"), marks=pytest.mark.slow),
        pytest.param({"trees": "all", "nested": True}, Target("log1p"), marks=pytest.mark.slow),
        pytest.param(
            {"target": "identity", "clip": (12.0, 150.0)}, Target("identity", 12.0, 150.0), marks=pytest.mark.slow
        ),
        pytest.param({"clip": (20.0, 1e4), "batch_median": 1.02}, Target("log1p", 20.0, None), marks=pytest.mark.slow),
    ],
)
def test_what_is_written_nowhere_is_found_and_proven(tmp_path: Path, variation: Any, target: Target) -> None:
    """Number of trees, transform, clip, order of the features, trees inside a pipeline, answers that lean on others."""
    draft, made = exported(tmp_path / "handout of ünïcode", **variation)
    assert draft.manifest.target == target
    assert draft.manifest.parity.max_relative_difference <= TOLERANCE
    assert draft.manifest.feature_names == list(variation.get("features", SOME_FEATURES))
    assert worst_difference(made, 60) <= TOLERANCE


@pytest.mark.slow
def test_half_of_the_trees_means_half(tmp_path: Path) -> None:
    """A number that neither the booster nor its best round would suggest."""
    draft, made = exported(tmp_path, trees="half")
    with opened_artefact(made.handout, made.artefact.file) as artefact:
        used: int = artefact.used  # type: ignore[attr-defined]
    assert draft.manifest.trees == used


def test_the_handout_stays_as_it_was(trained: Trained) -> None:
    """No bytecode, no cache: training and export together left nothing."""
    names = sorted(each.name for each in trained.handout.iterdir())
    assert "__pycache__" not in names
    assert names == sorted(each.name for each in write_handout(trained.holdout.parent / "fresh").iterdir())


@pytest.mark.slow
def test_two_handouts_in_one_process_do_not_mix(tmp_path: Path, trained: Trained) -> None:
    """Both call their module `model`; each gets its own, and none stays."""
    other, _ = train(write_handout(tmp_path / "handout"), tmp_path)
    for handout, file in ((trained.handout, trained.artefact.file), (other.handout, other.trained.file)):
        with opened_artefact(handout, file) as artefact:
            assert type(artefact) is sys.modules["model"].Estimator
            assert Path(sys.modules["model"].__file__ or "").parent == handout
        assert "model" not in sys.modules


@pytest.mark.parametrize(
    "names",
    [
        ("numpy.ipynb", "pandas.csv", "xgboost.json", "joblib.txt", "sklearn.md"),
        ("numpy.py", "pandas/__init__.py", "xgboost/notes.py", "json.py", "sklearn/old.ipynb"),
        ("calsvc.ipynb", "tests.py", "observability/__init__.py", "sys.py", "__main__.py"),
    ],
)
def test_what_is_named_like_a_library_does_not_replace_it(
    tmp_path: Path, trained: Trained, names: tuple[str, ...]
) -> None:
    """A notebook, data, or Python files of the handout: the libraries that are loaded stay the ones they are."""
    handout = tmp_path / "handout"
    shutil.copytree(trained.handout, handout)
    for name in names:
        (handout / name).parent.mkdir(exist_ok=True)
        (handout / name).write_text("")
    before = dict(sys.modules)
    row = pd.read_csv(trained.holdout / "stream.csv").drop(columns="Calories").head(1)
    with opened_artefact(handout, trained.artefact.file) as artefact:
        assert Path(sys.modules["model"].__file__ or "").parent == handout
        assert sys.modules["numpy"] is np
        assert sys.modules["pandas"] is pd
        assert predicted(artefact, row) > 0
    assert {name: sys.modules.get(name) for name in before} == before


def test_a_module_of_the_handouts_own_is_the_one_that_it_imports(tmp_path: Path, trained: Trained) -> None:
    """Another module of that name steps aside and comes back; nothing of the handout stays."""
    for folder, text in (("one", "first"), ("two", "second")):
        handout = tmp_path / folder
        shutil.copytree(trained.handout, handout)
        (handout / "helpers").mkdir()
        (handout / "helpers" / "words.py").write_text(f"TEXT = {text!r}")
        (handout / "tests.py").write_text(f"TEXT = {text!r}")
        with opened_artefact(handout, trained.artefact.file):
            assert text == importlib.import_module("helpers.words").TEXT
            assert text == importlib.import_module("tests").TEXT
        assert not {"helpers", "helpers.words", "model"} & set(sys.modules)
        assert sys.modules["tests.making"].Trained is Trained


@pytest.mark.slow
def test_unknown_features_are_refused_by_name(tmp_path: Path) -> None:
    """Never guessed."""
    with pytest.raises(UnknownFeatures, match="num__Age_cubed"):
        exported(tmp_path, extra_feature="num__Age_cubed")


@pytest.mark.slow
def test_an_answer_that_no_tree_gives_is_refused(tmp_path: Path) -> None:
    """A handout that adds something of its own after the trees."""
    handout = write_handout(tmp_path / "handout")
    replace_in(handout / "model.py", "        return answer", "        return answer + 0.1 * df['Age'].iloc[0]")
    source, _ = train(handout, tmp_path)
    with pytest.raises(ParityMissed):
        export("onnx", source, silent, rows=FEW)


@pytest.mark.slow
def test_a_handout_that_checks_its_input_is_still_exported(tmp_path: Path) -> None:
    """Made-up rows at the ends of what is possible may be refused; rows of its own data may not."""
    handout = write_handout(tmp_path / "handout")
    check = (
        "    def predict(self, df):\n        if (df['Weight'] > 200).any():\n            raise ValueError('heavy')\n"
    )
    replace_in(handout / "model.py", "    def predict(self, df):\n", check)
    source, _ = train(handout, tmp_path)
    assert export("onnx", source, silent, rows=FEW).warnings == ()
    replace_in(handout / "model.py", "> 200", "> 60")
    with pytest.raises(ExportError, match="predict fails on one row: ValueError: heavy"):
        export("onnx", source, silent, rows=FEW)


@pytest.mark.slow
def test_what_happens_only_far_out_is_a_warning(tmp_path: Path) -> None:
    """Within the data's ranges all agrees; beyond them the trees and the handout part, and that is said."""
    handout = write_handout(tmp_path / "handout")
    odd = "    def predict(self, df):\n        df = df.assign(Duration=df['Duration'].where(df['Duration'] < 100, 1))\n"
    replace_in(handout / "model.py", "    def predict(self, df):\n", odd)
    source, _ = train(handout, tmp_path)
    draft = export("onnx", source, silent, rows=FEW)
    (warning,) = draft.warnings
    assert "far out of the training data's ranges" in warning
    assert "Duration=1440" in warning


def test_an_artefact_of_a_lost_class_is_one_error(tmp_path: Path, trained: Trained) -> None:
    """The artefact and model.py do not belong together."""
    handout = write_handout(tmp_path / "handout")
    (handout / "model.py").write_text("")
    with (
        pytest.raises(ExportError, match="cannot be loaded: AttributeError"),
        opened_artefact(handout, trained.artefact.file),
    ):
        pass


@needs("real rows")
def test_real_rows_are_answered_as_the_handout_answers_them(tmp_path: Path, trained: Trained) -> None:
    """The exported trees, asked rows that people sent."""
    rows = read_rows(real_rows(), labelled=True).first(300)
    frame = pd.read_csv(real_rows()).drop(columns="Calories").head(300)
    ours = predict_rows(trained.bundle, Settings(), rows)
    with opened_artefact(trained.handout, trained.artefact.file) as artefact:
        theirs = [predicted(artefact, frame.iloc[[position]]) for position in range(len(ours))]
    assert compare(ours, theirs).max_relative_difference <= TOLERANCE
    assert np.isfinite(ours).all()
    assert not list(tmp_path.iterdir())

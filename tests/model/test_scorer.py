"""The engine that the service asks."""

import asyncio
import math
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import anyio
import numpy as np
import onnx
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from calsvc.handout.artefact import opened_artefact, predicted
from calsvc.http.errors import BundleError, ParityMissed, ScoringError
from calsvc.http.schema import Workout
from calsvc.model.bundle import ONNX, Bundle, Engine
from calsvc.model.parity import TOLERANCE
from calsvc.model.scorer import MAX_BATCH, OnnxScorer, open_scorer, prove
from calsvc.model.target import Target
from calsvc.training.publish import publish
from calsvc.training.rows import read_rows
from calsvc.training.sample import workouts
from tests.making import Trained


def score(bundle: Bundle, rows: list[Workout]) -> list[float]:
    """Score rows one by one, as the service does."""

    async def each() -> list[float]:
        scorer = OnnxScorer(bundle)
        return [await scorer.score(row) for row in rows]

    return anyio.run(each)


def altered(trained: Trained, folder: Path, target: Target) -> Bundle:
    """Publish the trained trees under another target, with checksums to match."""
    files = {name: trained.bundle.read(name) for name in trained.bundle.manifest.checksums}
    return publish(replace(trained.bundle.manifest, target=target), files, folder / "bundle")


def test_every_held_out_row_is_answered_as_the_handout_answers_it(trained: Trained) -> None:
    """Row by row, hundreds of rows that took no part in the export."""
    stream = trained.holdout / "stream.csv"
    frame = pd.read_csv(stream).drop(columns="Calories")
    assert len(frame) > 400
    with opened_artefact(trained.handout, trained.artefact.file) as artefact:
        theirs = np.array([predicted(artefact, frame.iloc[[position]]) for position in range(len(frame))])
    ours = np.array(score(trained.bundle, workouts(read_rows(stream, labelled=True).matrix)))
    assert (np.abs(ours - theirs) / np.abs(theirs)).max() < TOLERANCE


def test_opening_proves_parity_first(trained: Trained) -> None:
    """What is opened has answered the whole sample."""

    async def engine() -> str:
        scorer = await open_scorer(trained.bundle, trained.settings)
        await scorer.aclose()
        return scorer.engine

    assert anyio.run(engine) == "onnx"


def test_an_engine_that_disagrees_is_not_opened(trained: Trained, tmp_path: Path) -> None:
    """A well-formed bundle whose numbers are wrong never answers."""
    bundle = altered(trained, tmp_path, Target("identity"))
    with pytest.raises(ParityMissed, match="the engine onnx says"):
        anyio.run(open_scorer, bundle, trained.settings)


def test_answers_that_differ_in_a_batch_are_not_proven(trained: Trained) -> None:
    """Rows are asked for one by one and together, as requests are."""

    class Unsteady:
        engine: Engine = "onnx"
        at_once = 0

        def __init__(self, right: OnnxScorer) -> None:
            self.right = right

        async def score(self, workout: Workout) -> float:
            self.at_once += 1
            kcal = await self.right.score(workout)
            wrong = self.at_once > 1
            await asyncio.sleep(0)
            self.at_once -= 1
            return kcal * 1.01 if wrong else kcal

        async def aclose(self) -> None:
            """Nothing is held."""

    async def proving() -> None:
        await prove(Unsteady(OnnxScorer(trained.bundle)), trained.bundle.parity_sample())

    with pytest.raises(ParityMissed, match="the engine onnx, asked for many rows at once, says"):
        anyio.run(proving)


def test_an_answer_does_not_depend_on_what_was_asked_before(trained: Trained) -> None:
    """The arrays shared with the runtime carry nothing over, from a record or from another scorer."""
    first, second = trained.bundle.parity_sample().rows[:2]

    async def answers() -> list[float]:
        one, other = OnnxScorer(trained.bundle), OnnxScorer(trained.bundle)
        return [await scorer.score(row) for scorer in (one, other, one) for row in (first, second)]

    alone = [*score(trained.bundle, [first]), *score(trained.bundle, [second])]
    assert alone[0] != alone[1]
    assert anyio.run(answers) == alone * 3


@pytest.mark.parametrize("count", [2, MAX_BATCH - 1, MAX_BATCH, MAX_BATCH + 1, 5 * MAX_BATCH])
def test_an_answer_does_not_depend_on_what_is_asked_with_it(trained: Trained, count: int) -> None:
    """Rows that are asked for together are scored together, and get to the last bit what each gets alone."""
    sample = trained.bundle.parity_sample().rows
    rows = [sample[number % len(sample)] for number in range(count)]

    async def together() -> list[float]:
        scorer = OnnxScorer(trained.bundle)
        return [*await asyncio.gather(*map(scorer.score, rows)), *await asyncio.gather(*map(scorer.score, rows[:3]))]

    alone = score(trained.bundle, rows)
    assert anyio.run(together) == [*alone, *alone[:3]]


def test_a_request_that_is_cancelled_takes_no_other_with_it(trained: Trained) -> None:
    """Those in the same batch are answered, and so is the next one."""
    rows = trained.bundle.parity_sample().rows[:3]

    async def answers() -> list[float]:
        scorer = OnnxScorer(trained.bundle)
        first, second, third = (asyncio.ensure_future(scorer.score(row)) for row in rows)
        await asyncio.sleep(0)
        second.cancel()
        return [*await asyncio.gather(first, third), await scorer.score(rows[1])]

    alone = score(trained.bundle, rows)
    assert anyio.run(answers) == [alone[0], alone[2], alone[1]]


def test_a_runtime_that_fails_is_an_error_of_every_request_in_the_batch(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them waits for ever, and the next batch is answered."""
    row = trained.bundle.parity_sample().rows[0]

    async def outcomes() -> list[type]:
        scorer = OnnxScorer(trained.bundle)
        with monkeypatch.context() as patch:
            patch.setattr(scorer, "_session", None)
            failed = await asyncio.gather(*(scorer.score(row) for _ in range(3)), return_exceptions=True)
        return [type(each) for each in [*failed, await scorer.score(row)]]

    assert anyio.run(outcomes) == [AttributeError, AttributeError, AttributeError, float]


@given(st.lists(st.floats() | st.floats(-1e-37, 1e-37), min_size=1))
def test_a_native_float_is_rounded_as_numpy_rounds_it(numbers: list[float]) -> None:
    """The scorer's input is written by struct, what the model was proven on by numpy: the same to the last bit."""
    with np.errstate(over="ignore"):
        expected = np.array(numbers).astype(np.float32)
    packed = np.frombuffer(struct.pack(f"{len(numbers)}f", *numbers), dtype=np.float32)
    np.testing.assert_array_equal(packed, expected)


def test_the_clip_is_applied(trained: Trained, tmp_path: Path) -> None:
    """Bounds of the target bound the answer."""
    rows = trained.bundle.parity_sample().rows
    kcal = score(altered(trained, tmp_path, Target("log1p", low=50.0, high=60.0)), rows)
    assert {min(kcal), max(kcal)} == {50.0, 60.0}


def test_a_number_beyond_all_bounds_is_an_error_not_an_answer(trained: Trained, tmp_path: Path) -> None:
    """No infinity, no nan leaves the scorer."""
    bundle = altered(trained, tmp_path, Target("log1p"))
    model = onnx.load_from_string(bundle.read(ONNX))
    (node,) = model.graph.node
    (base,) = (each for each in node.attribute if each.name == "base_values")
    files = {name: bundle.read(name) for name in bundle.manifest.checksums}
    row = bundle.parity_sample().rows[0]
    for number in (1000.0, math.inf, math.nan):
        base.floats[0] = number
        files[ONNX] = model.SerializeToString()
        with pytest.raises(ScoringError, match=r"inf|nan"):
            score(publish(bundle.manifest, files, tmp_path / "bundle"), [row])


def test_a_model_that_the_runtime_cannot_load_is_one_error(trained: Trained, tmp_path: Path) -> None:
    """The file is named."""
    files = {name: trained.bundle.read(name) for name in trained.bundle.manifest.checksums}
    bundle = publish(trained.bundle.manifest, files | {ONNX: b"no model"}, tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"cannot load .*model\.onnx"):
        OnnxScorer(bundle)


def test_serving_needs_nothing_of_the_training_stack(trained: Trained, tmp_path: Path) -> None:
    """Loading a bundle, opening its scorer and asking it imports none of the train extra, and no pickle is read."""
    shutil.copytree(trained.bundle.folder, tmp_path / "bundle")
    program = """
import sys, anyio
from pathlib import Path
from calsvc.handout import form, running
from calsvc.model import bundle, features, parity, scorer, worker
from calsvc.training import current, publish
from calsvc.settings import Settings
loaded = bundle.load_bundle(Path(sys.argv[1]))
opened = anyio.run(scorer.open_scorer, loaded, Settings())
heavy = {"joblib", "mlflow", "onnx", "onnxmltools", "pandas", "polars", "yaml", "rich", "sklearn", "xgboost"}
print(opened.engine, sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "bundle"], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == "onnx []"

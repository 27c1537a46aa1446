"""From a trained artefact to the files of a bundle, with the proof that they say what the handout says.

Runs the handout's code: only for the training process. Needs the train extra.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from calsvc.handout.artefact import opened_artefact
from calsvc.handout.form import fingerprint
from calsvc.handout.running import TrainedArtefact
from calsvc.http.errors import ExportError, ParityMissed
from calsvc.model.bundle import ARTEFACT, FORM, ONNX, PARITY, PROFILE, TREES, Engine, Manifest, ParityProof
from calsvc.model.features import INPUTS, columns_function
from calsvc.model.parity import TOLERANCE, Parity, ParitySample, demand, relative_differences
from calsvc.model.profile import profile_of
from calsvc.model.target import Target, columns_to_kcal
from calsvc.training import sample
from calsvc.training.asking import OwnPredict, check_batches
from calsvc.training.boosters import Found, find_booster
from calsvc.training.convert import first_trees, load_trees, margins, onnx_margins, to_onnx
from calsvc.training.curve import Curves, learning_curves
from calsvc.training.evidence import Hypothesis, explain, with_bounds
from calsvc.training.form import read_form
from calsvc.training.rows import TARGET, Rows, bounds, read_rows
from observability.provenance import git_sha, library_versions

ROWS: Final[dict[Engine, int]] = {"onnx": 256, "reference": 32}
"""About how many rows prove parity. A worker takes some 20 ms for each, and repeats them at every start."""
_CORNERS: Final = 4096
_LIBRARIES: Final = ("xgboost-cpu", "xgboost", "onnxruntime", "onnx", "onnxmltools", "scikit-learn", "pandas", "numpy")

Progress = Callable[[int, int], None]
"""Called with the number of rows that the handout has predicted, and of how many."""


class Source(NamedTuple):
    """What is exported: the handout, what its train.py left, and the train.csv that it learned from."""

    handout: Path
    trained: TrainedArtefact
    data: Path


class Draft(NamedTuple):
    """A bundle ready to be published. `warnings`: what the proof does not cover; `curves`: what the artefact kept."""

    manifest: Manifest
    files: dict[str, bytes]
    warnings: tuple[str, ...]
    curves: Curves


class _Evidence(NamedTuple):
    """Raw inputs of shape (n, 7), the handout's kcal for each, and which lie within the data's own ranges."""

    matrix: NDArray[np.float64]
    truth: NDArray[np.float64]
    inner: NDArray[np.bool_]


class _Trees(NamedTuple):
    """The trees as found, and the features they look at."""

    found: Found
    grown: int

    def features(self, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        return columns_function(self.found.feature_names)(dict(zip(INPUTS, matrix.T, strict=True)))

    def margins(self, matrix: NDArray[np.float64], trees: int) -> NDArray[np.float32]:
        return margins(self.found.booster, self.features(matrix), trees)


def export(engine: Engine, source: Source, progress: Progress, rows: int | None = None) -> Draft:
    """Return the bundle of a trained artefact, proven on about `rows` rows against the handout's own predict.

    Raises:
        ExportError: the artefact holds nothing that can be exported; `UnknownFeatures` and `ParityMissed` are such.
        HandoutError: the training data cannot be read.
    """
    data = read_rows(source.data, labelled=True)
    count, form, handout_sha256 = rows or ROWS[engine], read_form(source.data, data), fingerprint(source.handout)
    # Relative paths mean nothing inside: the artefact is asked in a working directory of its own.
    with opened_artefact(source.handout, source.trained.file) as artefact:
        make = _export_trees if engine == "onnx" else _export_artefact
        draft = make(source.trained, data, OwnPredict(artefact, form), count, progress)
    return draft._replace(manifest=replace(draft.manifest, handout_sha256=handout_sha256))


def _export_trees(trained: TrainedArtefact, data: Rows, predict: OwnPredict, count: int, progress: Progress) -> Draft:
    found = find_booster(predict.artefact)
    trees = _Trees(found, found.booster.num_boosted_rounds())
    asked = _evidence(trees, data.matrix, count, lambda rows, sure: _ask(predict, rows, sure, progress))
    best = _explained(trees, asked.matrix[asked.inner], asked.truth[asked.inner])
    sums = trees.margins(asked.matrix, best.trees)
    target = with_bounds(best.target, sums, asked.truth)
    # Out of the data's own ranges a handout may do what its trees do not show. It is said, but stops nothing.
    wrong = relative_differences(columns_to_kcal(target, sums), asked.truth) > TOLERANCE
    kept = asked.inner | ~wrong
    proof = ParitySample(sample.workouts(asked.matrix[kept]), asked.truth[kept].tolist())
    files = {TREES: first_trees(found.booster, best.trees)}
    files[ONNX] = to_onnx(files[TREES])
    batches = check_batches(predict, proof)
    try:
        held = _prove(proof, trees.features(asked.matrix[kept]), files, target)
    except ParityMissed as missed:  # no formula is to blame where the handout answers a batch in another way
        raise ParityMissed("; ".join([str(missed), *batches.warnings])) from None
    manifest = _manifest("onnx", trained, _outcome(held.rows, held.max_relative_difference))
    manifest = replace(manifest, feature_names=found.feature_names, trees=best.trees, target=target)
    warnings = batches.warnings + _far_out(asked.matrix[~kept], asked.truth[~kept])
    return Draft(manifest, files | _companions(data, proof), warnings, learning_curves(predict.artefact))


def _export_artefact(
    trained: TrainedArtefact, data: Rows, predict: OwnPredict, count: int, progress: Progress
) -> Draft:
    assert data.target is not None  # noqa: S101 - labelled rows were asked for
    matrix = sample.ordinary_rows(data.matrix, data.target, count)
    truth = _ask(predict, matrix, len(matrix), progress)
    proof = ParitySample(sample.workouts(matrix), truth.tolist())
    files = {ARTEFACT: trained.file.read_bytes(), FORM: msgspec.json.encode(predict.form)}
    # The worker that will answer is asked these rows before the bundle is used (publish's `prove`). That it repeats
    # what the handout has said proves nothing of the handout: its answers have to be the same in a batch.
    batches = check_batches(predict, proof)
    manifest = _manifest("reference", trained, _outcome(len(matrix), batches.max_relative_difference))
    return Draft(manifest, files | _companions(data, proof), batches.warnings, learning_curves(predict.artefact))


def _evidence(
    trees: _Trees, matrix: NDArray[np.float64], count: int, ask: Callable[[NDArray[np.float64], int], NDArray[Any]]
) -> _Evidence:
    """Choose rows of the data, corners of its ranges, and rows at the ends of what the service accepts, and ask them.

    Where the trees give their lowest and highest sums, a clip shows; ordinary rows never come near it.
    """

    def lowest_and_highest(rows: NDArray[np.float64], each: int) -> NDArray[np.float64]:
        return sample.ends(rows, trees.margins(rows, trees.grown), each)

    ordinary = sample.ordinary_rows(matrix, trees.margins(matrix, trees.grown), count * 3 // 4)
    corners = sample.corners(matrix, _CORNERS)
    corners = np.vstack([corners[: count // 5], lowest_and_highest(corners, max(2, count // 40))])
    limits = np.array([(0.0, 1.0), *(bounds(name) for name in INPUTS[1:])]).T
    limits[0, 1:] = np.maximum(limits[0, 1:], 1.0)  # a workout of 5e-324 minutes proves nothing
    outer = lowest_and_highest(sample.corners(limits, _CORNERS), 4)
    rows = np.vstack([ordinary, corners, outer])
    truth = ask(rows, len(ordinary))
    answered = np.isfinite(truth)
    inner = np.arange(len(rows)) < len(ordinary) + len(corners)
    return _Evidence(rows[answered], truth[answered], inner[answered])


def _explained(trees: _Trees, matrix: NDArray[np.float64], truth: NDArray[np.float64]) -> Hypothesis:
    best = trees.found.booster.attr("best_iteration")
    hints = [int(best) + 1, trees.grown, int(best)] if best is not None else [trees.grown]
    return explain(truth, lambda count: trees.margins(matrix, count), hints, trees.grown)


def _ask(predict: OwnPredict, matrix: NDArray[np.float64], sure: int, progress: Progress) -> NDArray[np.float64]:
    """Return kcal for each row, nan where the handout refuses one; the first `sure` rows it must answer."""
    answers = []
    for done, row in enumerate(sample.workouts(matrix), start=1):
        try:
            answers.append(predict.alone(row))
        except ExportError:
            if done <= sure:
                raise
            answers.append(np.nan)  # nobody's workout, made up here: it may check what it is given
        progress(done, len(matrix))
    return np.array(answers)


def _prove(proof: ParitySample, features: NDArray[np.float32], files: dict[str, bytes], target: Target) -> Parity:
    """Demand that both exported forms say what the handout said; return the worse of the two outcomes."""
    booster = load_trees(files[TREES])
    in_batches = columns_to_kcal(target, margins(booster, features, booster.num_boosted_rounds()))
    one_by_one = columns_to_kcal(target, onnx_margins(files[ONNX], features))
    outcomes = [
        demand(proof, in_batches.tolist(), "the exported XGBoost model"),
        demand(proof, one_by_one.tolist(), "the exported ONNX model"),
    ]
    return max(outcomes, key=lambda outcome: outcome.max_relative_difference)


def _companions(data: Rows, proof: ParitySample) -> dict[str, bytes]:
    assert data.target is not None  # noqa: S101 - labelled rows were asked for
    profiles = {name: profile_of(values) for name, values in {**data.columns, TARGET: data.target}.items()}
    return {PARITY: msgspec.json.encode(proof), PROFILE: msgspec.json.encode(profiles)}


def _outcome(rows: int, max_relative_difference: float | None) -> ParityProof:
    return ParityProof(rows=rows, max_relative_difference=max_relative_difference, tolerance=TOLERANCE)


def _manifest(engine: Engine, trained: TrainedArtefact, parity: ParityProof) -> Manifest:
    return Manifest(
        created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        engine=engine,
        feature_names=[],
        trees=0,
        target=Target("identity"),
        training_metrics=trained.metrics,
        git_sha=git_sha(),
        handout_sha256="",  # by `export`
        parity=parity,
        libraries=library_versions(_LIBRARIES),
    )


def _far_out(matrix: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[str, ...]:
    if len(matrix) == 0:
        return ()
    row = ", ".join(f"{name}={value:g}" for name, value in zip(INPUTS, matrix[0], strict=True))
    return (
        f"far out of the training data's ranges the handout answers otherwise than its trees do (for example "
        f"{truth[0]:.6g} kcal for {row}); within them the two agree",
    )

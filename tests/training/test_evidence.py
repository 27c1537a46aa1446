"""Finding out what a handout does with its trees, from numbers alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from calsvc.model.target import Target, Transform, columns_to_kcal, to_kcal
from calsvc.training.evidence import explain, with_bounds

GROWN = 40
_random = np.random.default_rng(0)
_STEPS = _random.normal(0.1, 0.05, (GROWN, 200)).astype(np.float32)


def margins(trees: int) -> NDArray[np.float32]:
    """Sums of made-up trees."""
    return np.asarray(_STEPS[:trees].sum(axis=0), dtype=np.float32)


@pytest.mark.parametrize("transform", ["log1p", "log", "identity", "sqrt"])
@pytest.mark.parametrize("trees", [1, 17, 40])
def test_trees_and_transform_are_recovered(transform: Transform, trees: int) -> None:
    """Whatever the number of trees, hinted at or not."""
    truth = columns_to_kcal(Target(transform), margins(trees))
    found = explain(truth, margins, [GROWN, 30], GROWN)
    assert (found.trees, found.target, found.wrong) == (trees, Target(transform), 0)


@pytest.mark.parametrize(("low", "high"), [(30.0, None), (None, 60.0), (30.0, 60.0)])
def test_a_clip_is_recovered(low: float | None, high: float | None) -> None:
    """A bound shows where several rows answer the same at the end of all answers."""
    truth = columns_to_kcal(Target("log1p", low, high), margins(GROWN))
    assert explain(truth, margins, [GROWN], GROWN).target == Target("log1p", low, high)


def test_one_row_is_no_evidence_of_a_clip() -> None:
    """One row that differs is a wrong formula until another says the same."""
    sums = margins(GROWN)
    truth = columns_to_kcal(Target("log1p"), sums)
    truth[truth.argmin()] *= 1.01
    assert with_bounds(Target("log1p"), sums, truth) == Target("log1p")


def test_rows_that_differ_in_the_middle_are_no_clip() -> None:
    """A constant for some rows that is not at the end is something else."""
    sums = margins(GROWN)
    truth = columns_to_kcal(Target("log1p"), sums)
    truth[:5] = np.median(truth)
    assert with_bounds(Target("log1p"), sums, truth) == Target("log1p")


def test_what_nothing_explains_is_said_to_be_wrong() -> None:
    """The best hypothesis still reports how far off it is."""
    found = explain(_random.uniform(1, 300, 200), margins, [GROWN], GROWN)
    assert found.wrong > 100


@pytest.mark.parametrize("transform", ["log1p", "log", "identity", "sqrt"])
@pytest.mark.parametrize("bounds", [(None, None), (1.0, 50.0)])
def test_one_row_and_columns_convert_alike(transform: Transform, bounds: tuple[float | None, float | None]) -> None:
    """The two ways from a tree sum to kcal are the same function."""
    target = Target(transform, *bounds)
    sums = np.linspace(-2, 6, 50)
    one_by_one = [to_kcal(target)(each) for each in sums.tolist()]
    np.testing.assert_allclose(one_by_one, columns_to_kcal(target, sums), rtol=1e-14)

"""The generated data of the shipped handout: reproducible, and like the public data it stands in for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.handout_data import generate

HERE = Path(__file__).parent
DATA_SAMPLE = HERE.parents[1] / "handout_from DS_agent" / "data_sample"

# 1 %, median, 99 %, mean, standard deviation of 20,000 public rows; then the tolerance of the first three.
PUBLISHED = {
    "Age": (20, 40, 77, 41.6, 15.3, 3),
    "Height": (150, 174, 201, 174.7, 12.9, 3),
    "Weight": (51, 74, 103, 75.1, 14.0, 3),
    "Duration": (1, 15, 30, 15.4, 8.4, 3),
    "Heart_Rate": (76, 95, 115, 95.4, 9.5, 3),
    "Body_Temp": (37.7, 40.3, 41.1, 40.0, 0.78, 0.3),
    "Calories": (3, 77, 237, 88.1, 62.4, 3),
}


@pytest.fixture(scope="module")
def train() -> generate.Columns:
    """Generate the training rows once."""
    return generate.split()[0]


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_committed_files_are_what_the_seed_gives(name: str, tmp_path: Path):
    """A fresh run with the default seed writes the committed files, byte by byte."""
    generate.write(tmp_path)
    assert (tmp_path / name).read_bytes() == (DATA_SAMPLE / name).read_bytes()


def test_another_seed_gives_other_rows():
    """The seed decides the rows."""
    assert generate.workouts(50, seed=1)["Age"].tolist() != generate.workouts(50, seed=2)["Age"].tolist()


def test_fewer_rows_are_the_beginning_of_more():
    """A short table is the start of a long one of the same seed."""
    short, long = generate.workouts(50, seed=3), generate.workouts(400, seed=3)
    assert all(short[name].tolist() == long[name][:50].tolist() for name in generate.TRAIN_COLUMNS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_marginals_are_close_to_the_published_ones(name: str, train: generate.Columns):
    """Quantiles, mean and standard deviation of each column are within the tolerances README.md states."""
    low, median, high, mean, deviation, tolerance = PUBLISHED[name]
    values = train[name]
    assert np.quantile(values, (0.01, 0.5, 0.99)) == pytest.approx((low, median, high), abs=tolerance)
    assert values.mean() == pytest.approx(mean, abs=0.05 * deviation + 0.05)
    assert values.std() == pytest.approx(deviation, rel=0.05)
    assert generate.BOUNDS[name][0] <= values.min() <= values.max() <= generate.BOUNDS[name][1]


@pytest.mark.parametrize(
    ("one", "other", "correlation"),
    [
        ("Duration", "Heart_Rate", 0.87),
        ("Duration", "Body_Temp", 0.90),
        ("Heart_Rate", "Body_Temp", 0.80),
        ("Height", "Weight", 0.96),
        ("Duration", "Calories", 0.96),
    ],
)
def test_columns_correlate_as_in_the_public_data(one: str, other: str, correlation: float):
    """Pairs that hang together in the public data do so here, within 0.03."""
    train = generate.workouts(20_000)
    assert np.corrcoef(train[one], train[other])[0, 1] == pytest.approx(correlation, abs=0.03)


def test_sexes_are_even_and_ids_unique():
    """About half of the rows are women, and no id occurs twice over both files."""
    train, test = generate.split()
    assert np.mean(train["Sex"] == "female") == pytest.approx(0.5, abs=0.02)
    assert np.unique(np.concatenate([train["id"], test["id"]])).size == 25_000


def test_calories_follow_the_relation_up_to_the_noise(train: generate.Columns):
    """The labels scatter around the published regression by the noise and the rounding, without a bias."""
    expected = generate.energy(train["Sex"] == "male", train)
    error = np.log1p(train["Calories"]) - np.log1p(expected)
    assert error.mean() == pytest.approx(0.0, abs=0.005)
    assert error.std() == pytest.approx(generate.NOISE, abs=0.005)


def test_readme_shows_the_realised_marginals(train: generate.Columns):
    """The table in README.md is the one that the code prints."""
    assert generate.marginals(train) in (HERE / "README.md").read_text(encoding="utf-8")

"""Generates the workouts that the shipped handout is trained on; README.md beside this gives the reasons.

    python tests/handout_data/generate.py --out DIR [--seed N]
    python tests/handout_data/generate.py --marginals

Writes DIR/train.csv (20,000 rows with Calories) and DIR/test.csv (5,000 rows without), the same bytes for the
same seed. Needs numpy only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

SEED = 20260105
TRAIN_ROWS = 20_000
TEST_ROWS = 5_000
NOISE = 0.0600  # standard deviation of log(Calories) around the relation

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = dict[str, NDArray]

FEATURE_COLUMNS = ("id", "Sex", "Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp")
TRAIN_COLUMNS = (*FEATURE_COLUMNS, "Calories")

# Hard ends of each column, in its own unit: nothing outside has been published for this kind of data.
BOUNDS = {
    "Age": (20, 79),
    "Height": (140, 214),
    "Weight": (40, 121),
    "Duration": (1, 30),
    "Heart_Rate": (67, 128),
    "Body_Temp": (37.1, 41.5),
    "Calories": (1, 314),
}
AGE_QUANTILES = ((0.0, 20), (0.25, 28), (0.5, 40), (0.75, 53), (0.95, 70), (0.99, 76.5), (1.0, 79.5))

# Keytel et al. 2005: kJ/min = intercept + a * heart rate (bpm) + b * weight (kg) + c * age (years).
KEYTEL_FEMALE = (-20.4022, 0.4472, -0.1263, 0.0740)
KEYTEL_MALE = (-55.0969, 0.6309, 0.1988, 0.2017)
KJ_PER_KCAL = 4.184
POUNDS_PER_KG = 2.2046


def workouts(rows: int, seed: int = SEED) -> Columns:
    """Return `rows` labelled workouts, column by column, in the order of TRAIN_COLUMNS.

    Row i depends on the seed and on i alone, so fewer rows are the beginning of more rows. Units: years, cm,
    kg, minutes, beats per minute, degrees Celsius, kcal; `id` counts from 0.
    """
    # PCG64 and its doubles are fixed by definition, the library's normal and integer samplers are not: every
    # column is therefore an inverse distribution function of plain uniforms.
    uniform = np.random.Generator(np.random.PCG64(seed)).random((rows, 8))
    male = uniform[:, 0] < 0.5
    age = np.floor(_interpolated(uniform[:, 1], AGE_QUANTILES))
    height, weight = _body(male, _normal(uniform[:, 2]), _normal(uniform[:, 3]))
    duration = np.rint(1.0 + 29.0 * uniform[:, 4])
    heart_rate = np.rint(80.25 + 0.985 * duration + 4.6 * _normal(uniform[:, 5]))
    body_temp = np.rint(10.0 * (37.62 + 0.96 * np.log(duration) + 0.19 * _normal(uniform[:, 6]))) / 10.0
    measured = {
        "Age": age,
        "Height": np.rint(height),
        "Weight": np.rint(weight),
        "Duration": duration,
        "Heart_Rate": heart_rate,
        "Body_Temp": body_temp,
    }
    measured = {name: np.clip(values, *BOUNDS[name]) for name, values in measured.items()}
    burnt = energy(male, measured) * np.exp(NOISE * _normal(uniform[:, 7]))
    return {
        "id": np.arange(rows),
        "Sex": np.where(male, "male", "female"),
        **measured,
        "Age": measured["Age"].astype(int),
        "Calories": np.clip(np.rint(burnt), *BOUNDS["Calories"]),
    }


def energy(male: NDArray[np.bool_], measured: Columns) -> Floats:
    """Return the energy spent in kcal by the relation alone, before noise and rounding.

    Keytel et al. 2005, J Sports Sci 23:289-297, with the weight's coefficient divided by the pounds in a
    kilogram: the public data that this imitates follows the regression in that form (see README.md).
    """
    female_rate, male_rate = (
        intercept
        + per_beat * measured["Heart_Rate"]
        + per_kg / POUNDS_PER_KG * measured["Weight"]
        + per_year * measured["Age"]
        for intercept, per_beat, per_kg, per_year in (KEYTEL_FEMALE, KEYTEL_MALE)
    )
    # Far below the heart rates it was fitted on, the regression goes negative; nobody trains energy in.
    rate = np.maximum(np.where(male, male_rate, female_rate), 0.0)
    return rate / KJ_PER_KCAL * measured["Duration"]


def _body(male: NDArray[np.bool_], tall: Floats, heavy: Floats) -> tuple[Floats, Floats]:
    """Return height in cm and weight in kg from two standard normal numbers a person."""
    height = np.where(male, 184.5 + 8.6 * tall, 165.2 + 8.2 * tall)
    weight = np.where(
        male,
        86.7 + 0.954 * (height - 184.5) + 3.7 * heavy,
        63.9 + 0.778 * (height - 165.2) + 3.0 * heavy,
    )
    return height, weight


def _normal(uniform: Floats) -> Floats:
    """Return the standard normal numbers with the given probabilities below them."""
    inverse = NormalDist().inv_cdf
    # random() may return exactly 0, where the inverse is infinite.
    return np.array([inverse(max(probability, 1e-12)) for probability in uniform.tolist()])


def _interpolated(uniform: Floats, quantiles: Sequence[tuple[float, float]]) -> Floats:
    """Return values of the distribution that is a straight line between (probability, value) points."""
    probabilities, values = zip(*quantiles, strict=True)
    return np.interp(uniform, probabilities, values)


def split(seed: int = SEED) -> tuple[Columns, Columns]:
    """Return the training rows and the test rows, both with Calories; their ids do not overlap."""
    table = workouts(TRAIN_ROWS + TEST_ROWS, seed)
    train = {name: values[:TRAIN_ROWS] for name, values in table.items()}
    test = {name: values[TRAIN_ROWS:] for name, values in table.items()}
    return train, test


def csv_text(columns: Columns, names: Sequence[str]) -> str:
    """Return the named columns as comma-separated text; whole numbers in a float column end in .0."""
    body = zip(*(columns[name].tolist() for name in names), strict=True)
    lines = [",".join(names), *(",".join(map(str, row)) for row in body)]
    return "\n".join(lines) + "\n"


def write(folder: Path, seed: int = SEED) -> None:
    """Write train.csv and test.csv into `folder`, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = split(seed)
    for name, columns, header in (("train", train, TRAIN_COLUMNS), ("test", test, FEATURE_COLUMNS)):
        (folder / f"{name}.csv").write_bytes(csv_text(columns, header).encode("ascii"))


def marginals(columns: Columns) -> str:
    """Return a Markdown table of each column's min, 1 %, median, 99 %, max, mean and standard deviation."""
    lines = ["| column | min | 1 % | median | 99 % | max | mean | sd |", "|---|---|---|---|---|---|---|---|"]
    for name in BOUNDS:
        values = columns[name]
        figures = [f"{q:g}" for q in np.quantile(values, (0, 0.01, 0.5, 0.99, 1))]
        lines.append(f"| {name} | {' | '.join(figures)} | {values.mean():.2f} | {values.std():.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Write the files, or print the table, as the command line says."""
    parser = argparse.ArgumentParser(description="Generate the handout's data, or show its marginals.")
    parser.add_argument("--out", type=Path, help="folder for train.csv and test.csv")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--marginals", action="store_true", help="print the training rows' marginals")
    arguments = parser.parse_args()
    if not (arguments.out or arguments.marginals):
        parser.error("nothing to do: give --out DIR or --marginals")
    if arguments.out:
        write(arguments.out, arguments.seed)
    if arguments.marginals:
        print(marginals(split(arguments.seed)[0]))


if __name__ == "__main__":
    main()

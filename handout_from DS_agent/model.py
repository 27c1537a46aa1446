"""Calorie model: feature engineering and the object that is saved as the artefact.

Everything here works on DataFrames in memory; reading and writing files is left to the scripts.
"""

import numpy as np
import pandas as pd
import xgboost as xgb
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

RAW_NUMERIC = ["Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp"]
DERIVED = [
    "BMI",
    "Workload",
    "Duration2",
    "Heart_Rate2",
    "log_Duration",
    "log_Heart_Rate",
    "Temp_Delta",
    "Intensity",
    "Workload_per_kg",
    "Duration_x_BMI",
    "HR_x_BMI",
]
SEXES = {"female": "female", "f": "female", "male": "male", "m": "male"}
RESTING_TEMP = 36.8  # deg C
BMI_RANGE = (10.0, 60.0)  # kg/m2
INTENSITY_RANGE = (0.2, 2.0)  # share of the maximal heart rate


def normalise_gender(df: pd.DataFrame) -> pd.Series:
    """Return 'female' or 'male' for every row, from the column `Sex` or `Gender`.

    Accepts male, female, m and f in any case. Raises ValueError if there is no such column, if a value is
    something else, or if both columns are there and disagree.
    """
    found = [name for name in ("Sex", "Gender") if name in df.columns]
    if not found:
        raise ValueError("missing column: Sex (or Gender)")
    parsed = []
    for name in found:
        text = df[name].astype(str).str.strip().str.lower()
        gender = text.map(SEXES)
        if gender.isna().any():
            bad = df[name][gender.isna()].iloc[0]
            raise ValueError(f"column {name}: cannot read {bad!r}, expected male/female or m/f")
        parsed.append(gender)
    if len(parsed) == 2 and (parsed[0] != parsed[1]).any():
        raise ValueError("columns Sex and Gender disagree")
    return parsed[0]


def add_features(df: pd.DataFrame) -> pd.DataFrame:
    """Return Gender, the six measured columns and the derived ones; the input is left as it is.

    Units of the input: years, cm, kg, minutes, beats per minute, deg C. Missing numbers stay missing.
    """
    missing = [name for name in RAW_NUMERIC if name not in df.columns]
    if missing:
        raise ValueError(f"missing column: {', '.join(missing)}")
    out = df[RAW_NUMERIC].astype("float64")
    out.insert(0, "Gender", normalise_gender(df))
    out["BMI"] = (out["Weight"] / (out["Height"] / 100.0) ** 2).clip(*BMI_RANGE)
    out["Workload"] = out["Duration"] * out["Heart_Rate"]
    # Squares and logarithms order the rows as the plain columns do, so trees gain next to nothing from them;
    # they are kept so that the linear baselines work on the same table.
    out["Duration2"] = out["Duration"] ** 2
    out["Heart_Rate2"] = out["Heart_Rate"] ** 2
    out["log_Duration"] = np.log1p(out["Duration"])
    out["log_Heart_Rate"] = np.log1p(out["Heart_Rate"])
    out["Temp_Delta"] = out["Body_Temp"] - RESTING_TEMP
    # 220 - age is the usual rule of thumb for the maximal heart rate.
    out["Intensity"] = (out["Heart_Rate"] / (220.0 - out["Age"])).clip(*INTENSITY_RANGE)
    out["Workload_per_kg"] = out["Workload"] / out["Weight"]
    out["Duration_x_BMI"] = out["Duration"] * out["BMI"]
    out["HR_x_BMI"] = out["Heart_Rate"] * out["BMI"]
    return out


def make_preprocessor() -> ColumnTransformer:
    """Gender one-hot, numbers as they are; a missing number gets the training median of its column."""
    transformer = ColumnTransformer(
        [
            ("cat", OneHotEncoder(categories=[["female", "male"]], sparse_output=False), ["Gender"]),
            ("num", SimpleImputer(strategy="median"), RAW_NUMERIC + DERIVED),
        ]
    )
    # DataFrames out, so that the booster knows its columns by name (cat__..., num__...).
    return transformer.set_output(transform="pandas")


class CalorieModel:
    """Preprocessing and gradient boosted trees on log1p(Calories).

    Attributes after `fit`: `booster`, `preprocessor`, `feature_names`, `best_iteration` (counted from 0) and
    `n_trees`, the number of trees that `predict` uses. The booster also keeps those grown after the best one.
    """

    def __init__(self, params: dict[str, object]) -> None:
        self.params = dict(params)
        self.preprocessor = make_preprocessor()
        self.booster: xgb.Booster | None = None
        self.feature_names: list[str] = []
        self.best_iteration: int | None = None
        self.n_trees: int | None = None

    def fit(
        self,
        train: pd.DataFrame,
        train_kcal: np.ndarray,
        valid: pd.DataFrame,
        valid_kcal: np.ndarray,
        num_boost_round: int,
        early_stopping_rounds: int,
        callbacks: list[xgb.callback.TrainingCallback] | None = None,
    ) -> "CalorieModel":
        """Fit on `train`, stop when the error on `valid` has not improved for `early_stopping_rounds`."""
        train_x = self.preprocessor.fit_transform(add_features(train))
        self.feature_names = list(train_x.columns)
        train_set = xgb.DMatrix(train_x, label=np.log1p(train_kcal))
        valid_set = xgb.DMatrix(self._matrix(valid), label=np.log1p(valid_kcal))
        self.booster = xgb.train(
            self.params,
            train_set,
            num_boost_round=num_boost_round,
            evals=[(valid_set, "valid")],
            early_stopping_rounds=early_stopping_rounds,
            callbacks=callbacks,
            verbose_eval=False,
        )
        self.best_iteration = int(self.booster.best_iteration)
        self.n_trees = self.best_iteration + 1
        return self

    def predict(self, df: pd.DataFrame) -> np.ndarray:
        """Energy spent in kcal, one number per row of `df`, never below 0."""
        if self.booster is None:
            raise RuntimeError("the model is not fitted")
        matrix = xgb.DMatrix(self._matrix(df))
        log_kcal = self.booster.predict(matrix, iteration_range=(0, self.n_trees))
        return np.maximum(np.expm1(log_kcal), 0.0)

    def _matrix(self, df: pd.DataFrame) -> pd.DataFrame:
        return self.preprocessor.transform(add_features(df))[self.feature_names]


def rmsle(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean squared error of log1p, the metric this model is judged by."""
    difference = np.log1p(np.asarray(predicted)) - np.log1p(np.asarray(actual))
    return float(np.sqrt(np.mean(difference**2)))

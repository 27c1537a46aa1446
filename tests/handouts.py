"""Builds small handouts of the contract's form, and unlike the shipped one, for tests of the service.

    folder = write_handout(tmp_path / "from someone", trees="half", target="identity")

Each variation changes what the outside can observe of the artefact or of a training run. The texts below
become files; they are told apart by `config.yaml`, which an artefact takes along as `options`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.handout_data.generate import FEATURE_COLUMNS, TRAIN_COLUMNS, Columns, csv_text, workouts

Break = Literal["no_train", "no_artefact", "nan_data", "train_crash", "train_writes_into_itself"]

# Every feature name of the contract, in the shipped handout's order.
ALL_FEATURES = (
    "cat__Gender_female", "cat__Gender_male",
    "num__Age", "num__Height", "num__Weight", "num__Duration", "num__Heart_Rate", "num__Body_Temp",
    "num__BMI", "num__Workload", "num__Duration2", "num__Heart_Rate2", "num__log_Duration",
    "num__log_Heart_Rate", "num__Temp_Delta", "num__Intensity", "num__Workload_per_kg",
    "num__Duration_x_BMI", "num__HR_x_BMI",
)  # fmt: skip
SOME_FEATURES = (
    "num__Workload", "num__Temp_Delta", "cat__Gender_male", "num__log_Duration", "num__BMI", "num__Intensity",
    "num__Weight", "num__Age", "num__HR_x_BMI",
)  # fmt: skip

MODEL_PY = '''"""Trees on named columns; what varies is in `options`."""

import numpy as np
import pandas as pd
import xgboost as xgb
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer


def columns_of(df, names, extra=None):
    female = df["Gender" if "Gender" in df else "Sex"].astype(str).str.lower().str.startswith("f")
    age, height, weight = df["Age"], df["Height"], df["Weight"]
    minutes, beats, temp = df["Duration"], df["Heart_Rate"], df["Body_Temp"]
    bmi = np.clip(weight / (height / 100.0) ** 2, 10.0, 60.0)
    known = {
        "cat__Gender_female": female, "cat__Gender_male": ~female,
        "num__Age": age, "num__Height": height, "num__Weight": weight,
        "num__Duration": minutes, "num__Heart_Rate": beats, "num__Body_Temp": temp,
        "num__BMI": bmi, "num__Workload": minutes * beats,
        "num__Duration2": minutes**2, "num__Heart_Rate2": beats**2,
        "num__log_Duration": np.log1p(minutes), "num__log_Heart_Rate": np.log1p(beats),
        "num__Temp_Delta": temp - 36.8, "num__Intensity": np.clip(beats / (220.0 - age), 0.2, 2.0),
        "num__Workload_per_kg": minutes * beats / weight,
        "num__Duration_x_BMI": minutes * bmi, "num__HR_x_BMI": beats * bmi,
    }
    if extra:
        known[extra] = age**3 % 7
    return pd.DataFrame({name: known[name] for name in names}, dtype="float64")


class Estimator:
    def __init__(self, options):
        self.options = options

    def fit(self, train, valid):
        x, valid_x = self.columns(train), self.columns(valid)
        y, valid_y = self.forward(train["Calories"]), self.forward(valid["Calories"])
        settings = {"max_depth": 3, "learning_rate": 0.4, "tree_method": "hist"}
        if self.options["nested"]:
            trees = xgb.XGBRegressor(n_estimators=90, early_stopping_rounds=6, **settings)
            trees.fit(x, y, eval_set=[(valid_x, valid_y)], verbose=False)
            self.pipeline = Pipeline([("columns", FunctionTransformer(self.columns)), ("trees", trees)])
            booster = trees.get_booster()
        else:
            watched = [(xgb.DMatrix(valid_x, valid_y), "valid")]
            booster = self.booster = xgb.train(
                settings, xgb.DMatrix(x, y), 90, evals=watched, early_stopping_rounds=6, verbose_eval=False
            )
        grown = booster.num_boosted_rounds()
        self.best = int(booster.best_iteration)
        self.used = {"best": self.best + 1, "all": grown, "half": grown // 2}[self.options["trees"]]
        return self

    def columns(self, df):
        return columns_of(df, self.options["features"], self.options["extra_feature"])

    def forward(self, kcal):
        return np.log1p(kcal) if self.options["target"] == "log1p" else kcal

    def predict(self, df):
        if self.options["batch_median"]:
            limit = self.options["batch_median"] * df["Heart_Rate"].median()
            df = df.assign(Heart_Rate=df["Heart_Rate"].clip(upper=limit))
        span = (0, self.used)
        if self.options["nested"]:
            answer = self.pipeline.predict(df, iteration_range=span)
        else:
            answer = self.booster.predict(xgb.DMatrix(self.columns(df)), iteration_range=span)
        if self.options["target"] == "log1p":
            answer = np.expm1(answer)
        if self.options["clip"]:
            answer = np.clip(answer, *self.options["clip"])
        return answer
'''

TRAIN_PY = '''"""train.py --data-dir DIR --config FILE --out FILE --metrics FILE"""

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

here = Path(__file__).parent
parser = argparse.ArgumentParser()
parser.add_argument("--data-dir", type=Path, default=here / "data_sample")
parser.add_argument("--config", type=Path, default=here / "config.yaml")
parser.add_argument("--out", type=Path, default=Path("model.joblib"))
parser.add_argument("--metrics", type=Path, default=Path("metrics.json"))
args = parser.parse_args()

# A run of the tests trains each content once: the same code, configuration and rows.
content = [here / "model.py", here / "train.py", args.config, args.data_dir / "train.csv"]
key = hashlib.sha256(b"".join(file.read_bytes() for file in content)).hexdigest()
kept = Path(folder, key) if (folder := os.environ.get("KEPT_TRAININGS")) else None
if kept and kept.exists():
    print((kept / "output").read_text(), flush=True)
    shutil.copyfile(kept / "artefact", args.out)
    shutil.copyfile(kept / "metrics", args.metrics)
    raise SystemExit

import joblib
import numpy as np
import pandas as pd
import yaml

from model import Estimator

config = yaml.safe_load(args.config.read_text())
rows = pd.read_csv(args.data_dir / "train.csv")
for name in rows:
    if rows[name].isna().any():
        raise SystemExit(f"train.csv: column {name} has missing values")
held = int(len(rows) * config["data"]["valid_fraction"])
output = f"{len(rows)} rows, the last {held} to validate on"
print(output, flush=True)
# BREAK
train, valid = rows.iloc[:-held], rows.iloc[-held:]
estimator = Estimator(config["model"]).fit(train, valid)
error = np.log1p(np.maximum(estimator.predict(valid), 0)) - np.log1p(valid["Calories"])
rmsle = float(np.sqrt((error**2).mean()))
result = f"rmsle {rmsle:.4f}, {estimator.used} trees"
print(result, flush=True)
joblib.dump(estimator, args.out)
args.metrics.write_text(json.dumps({"valid_rmsle": rmsle, "best_iteration": estimator.best}))
if kept:
    try:
        new = Path(tempfile.mkdtemp(dir=kept.parent))
        (new / "output").write_text(f"{output}\\n{result}")
        shutil.copyfile(args.out, new / "artefact")
        shutil.copyfile(args.metrics, new / "metrics")
        new.rename(kept)
    except OSError:
        pass  # no room, or another process has trained the same in the meantime
'''

PREDICT_PY = '''"""predict.py --data-dir DIR --model FILE --out FILE"""

import argparse
from pathlib import Path

import joblib
import pandas as pd

parser = argparse.ArgumentParser()
parser.add_argument("--data-dir", type=Path, default=Path(__file__).parent / "data_sample")
parser.add_argument("--model", type=Path, default=Path("model.joblib"))
parser.add_argument("--out", type=Path, default=Path("predictions.csv"))
args = parser.parse_args()

rows = pd.read_csv(args.data_dir / "test.csv")
kcal = joblib.load(args.model).predict(rows)
pd.DataFrame({"id": rows["id"], "Calories": kcal}).to_csv(args.out, index=False)
'''

STREAM_PREDICT_PY = '''"""stream_predict.py --model FILE < JSON lines"""

import argparse
import json
import sys
from pathlib import Path

import joblib
import pandas as pd

parser = argparse.ArgumentParser()
parser.add_argument("--model", type=Path, default=Path("model.joblib"))
estimator = joblib.load(parser.parse_args().model)
for line in sys.stdin:
    record = json.loads(line)
    kcal = float(estimator.predict(pd.DataFrame([record]))[0])
    print(json.dumps({"id": record["id"], "Calories": kcal}), flush=True)
'''

TEXTS = {
    "model.py": MODEL_PY,
    "predict.py": PREDICT_PY,
    "stream_predict.py": STREAM_PREDICT_PY,
    "README.md": "# A small calorie model\n\nRun train.py, then predict.py; every option has a default.\n",
    "SCHEMA.md": "# Columns\n\nYears, cm, kg, minutes, beats per minute, deg C; Calories in kcal.\n",
    "MODEL_CARD.md": "# Model card\n\nA few small trees on generated rows. Good for tests only.\n",
}

# What stands for "# BREAK" in train.py, that is after reading the data and before the training.
SABOTAGE = {
    "no_artefact": "raise SystemExit(0)",
    "train_crash": 'raise RuntimeError("the training crashed on purpose")',
    "train_writes_into_itself": '(here / "train.log").write_text("trained")',
}


def write_handout(
    folder: Path,
    *,
    features: Sequence[str] = SOME_FEATURES,
    trees: Literal["best", "all", "half"] = "best",
    target: Literal["log1p", "identity"] = "log1p",
    clip: tuple[float, float] | None = None,
    nested: bool = False,
    extra_feature: str | None = None,
    batch_median: float | bool = False,
    break_: Break | None = None,
    rows: int = 600,
    seed: int = 1,
) -> Path:
    """Write a handout into `folder` (made if missing) and return it; its training takes a second or two.

    features: the booster's columns in this order, out of ALL_FEATURES.
    trees: how many `predict` uses: up to the best round, all that were grown, or half of all.
    target: what the trees are fitted to; `predict` answers in kcal either way.
    clip: limits of the answer in kcal; None leaves even a negative answer.
    nested: the booster sits in an XGBRegressor in a Pipeline (`.pipeline`), not in `.booster`.
    extra_feature: one more column, last, under a name whose meaning only this model.py knows.
    batch_median: `predict` cuts Heart_Rate at this multiple of the batch's median, so that a row's answer
        depends on its neighbours. True stands for 3, which no plausible row reaches; 1.02 changes many rows.
    break_: `no_train`, there is no train.py; `no_artefact`, it ends well and writes nothing; `nan_data`, a
        heart rate is missing and it refuses; `train_crash`, it raises; `train_writes_into_itself`, it leaves
        a train.log in the folder and works otherwise.
    rows, seed: of data_sample/train.csv; test.csv has a quarter as many.
    """
    model = {
        "features": [*features, *([extra_feature] if extra_feature else [])],
        "trees": trees,
        "target": target,
        "clip": clip,
        "nested": nested,
        "extra_feature": extra_feature,
        "batch_median": 3.0 if batch_median is True else batch_median,
    }
    texts = dict(TEXTS)
    # JSON is YAML, and spares this module a dependency.
    config = {"data": {"valid_fraction": 0.2}, "train": {}, "model": model}
    texts["config.yaml"] = json.dumps(config, indent=2)
    if break_ != "no_train":
        texts["train.py"] = TRAIN_PY.replace("# BREAK\n", SABOTAGE.get(break_ or "", "") + "\n")
    (folder / "data_sample").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    _write_data(folder / "data_sample", workouts(rows + rows // 4, seed), rows, missing=break_ == "nan_data")
    return folder


def _write_data(folder: Path, table: Columns, rows: int, *, missing: bool) -> None:
    """Write the first `rows` rows as train.csv and the others, without Calories, as test.csv."""
    test = {name: values[rows:] for name, values in table.items()}
    train = {name: values[:rows] for name, values in table.items()}
    if missing:
        train["Heart_Rate"] = train["Heart_Rate"].copy()
        train["Heart_Rate"][rows // 2] = float("nan")
    (folder / "train.csv").write_text(csv_text(train, TRAIN_COLUMNS), encoding="utf-8")
    (folder / "test.csv").write_text(csv_text(test, FEATURE_COLUMNS), encoding="utf-8")

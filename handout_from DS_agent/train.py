"""Train the calorie model.

    python train.py [--data-dir DIR] [--config FILE] [--out FILE] [--metrics FILE]

Reads DIR/train.csv. Writes the artefact (--out, joblib) and the metrics (--metrics, JSON) and nothing else.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import xgboost as xgb
import yaml
from sklearn.model_selection import train_test_split

# The folder is handed over as it is: importing model.py from it shall not leave compiled files there.
sys.dont_write_bytecode = True

from model import RAW_NUMERIC, CalorieModel, normalise_gender, rmsle  # noqa: E402

HERE = Path(__file__).resolve().parent


class Progress(xgb.callback.TrainingCallback):
    """Print the validation error every `every` rounds."""

    def __init__(self, rounds: int, every: int) -> None:
        self.rounds = rounds
        self.every = every

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: dict) -> bool:
        if (epoch + 1) % self.every == 0:
            # The target is log1p(Calories), so its RMSE is the RMSLE.
            say(f"round {epoch + 1}/{self.rounds} valid_rmsle {evals_log['valid']['rmse'][-1]:.5f}")
        return False


def say(message: str) -> None:
    print(message, flush=True)


def read_config(path: Path) -> dict:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section in ("data", "train", "model"):
        if section not in (config or {}):
            raise ValueError(f"{path.name}: missing section {section!r}")
    return config


def read_training_data(path: Path, target: str) -> pd.DataFrame:
    """Read the labelled rows and refuse what would train silently wrong."""
    df = pd.read_csv(path)
    for name in RAW_NUMERIC + [target]:
        if name not in df.columns:
            raise ValueError(f"{path.name}: missing column: {name}")
        numbers = pd.to_numeric(df[name], errors="coerce")
        bad = ~np.isfinite(numbers)
        if bad.any():
            raise ValueError(f"{path.name}: column {name}: {int(bad.sum())} rows without a finite number")
        df[name] = numbers
    if (df[target] < 0).any():
        raise ValueError(f"{path.name}: column {target}: negative values")
    normalise_gender(df)
    return df


def split(df: pd.DataFrame, data: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    return train_test_split(df, test_size=data["valid_fraction"], random_state=data["seed"])


def booster_params(config: dict) -> dict[str, object]:
    """XGBoost's parameters; without `n_jobs` it follows OMP_NUM_THREADS."""
    params = {"objective": "reg:squarederror", "eval_metric": "rmse", "seed": config["train"]["seed"]}
    params.update(config["model"])
    n_jobs = config["train"].get("n_jobs")
    if n_jobs is not None:
        params["nthread"] = n_jobs
    return params


def measure(model: CalorieModel, train: pd.DataFrame, valid: pd.DataFrame, target: str) -> dict[str, float]:
    valid_predicted = model.predict(valid)
    return {
        "valid_rmsle": rmsle(valid[target], valid_predicted),
        "train_rmsle": rmsle(train[target], model.predict(train)),
        "valid_mae_kcal": float(np.mean(np.abs(valid[target] - valid_predicted))),
        "best_iteration": model.best_iteration,
        "n_trees": model.n_trees,
        "n_train": len(train),
        "n_valid": len(valid),
        "n_features": len(model.feature_names),
    }


def run(args: argparse.Namespace) -> None:
    config = read_config(args.config)
    target = config["data"]["target"]
    df = read_training_data(args.data_dir / "train.csv", target)
    train, valid = split(df, config["data"])
    say(f"read {len(df)} rows: {len(train)} to train on, {len(valid)} to validate on")

    settings = config["train"]
    started = time.perf_counter()
    model = CalorieModel(booster_params(config)).fit(
        train,
        train[target].to_numpy(),
        valid,
        valid[target].to_numpy(),
        num_boost_round=settings["num_boost_round"],
        early_stopping_rounds=settings["early_stopping_rounds"],
        callbacks=[Progress(settings["num_boost_round"], settings["report_every"])],
    )
    say(f"trained in {time.perf_counter() - started:.1f} s, best round {model.n_trees}")

    metrics = measure(model, train, valid, target)
    say(f"valid_rmsle {metrics['valid_rmsle']:.5f} train_rmsle {metrics['train_rmsle']:.5f}")
    for path in (args.out, args.metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, args.out)
    args.metrics.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    say(f"wrote {args.out} and {args.metrics}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the calorie model.")
    parser.add_argument("--data-dir", type=Path, default=HERE / "data_sample", help="folder with train.csv")
    parser.add_argument("--config", type=Path, default=HERE / "config.yaml")
    parser.add_argument("--out", type=Path, default=Path("model.joblib"), help="artefact to write")
    parser.add_argument("--metrics", type=Path, default=Path("metrics.json"), help="metrics to write")
    try:
        run(parser.parse_args())
    except KeyError as error:
        print(f"train.py: error: the configuration lacks {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, yaml.YAMLError) as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

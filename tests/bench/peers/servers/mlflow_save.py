"""Save a booster as `mlflow models serve` loads it: `python mlflow_save.py TREES FOLDER`, in the venv of mlflow."""

import sys

import mlflow.xgboost
import xgboost as xgb

if __name__ == "__main__":
    trees, folder = sys.argv[1:]
    booster = xgb.Booster({"nthread": 1}, model_file=trees)
    # With names, and a signature, mlflow makes a DataFrame of each record; without, an array, twice as fast.
    booster.feature_names = None
    mlflow.xgboost.save_model(booster, folder, pip_requirements=[])

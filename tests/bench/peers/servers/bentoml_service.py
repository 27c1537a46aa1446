"""BentoML services for the bundle's trees; run in a venv of their own, the trees are in CALORIES_MODEL.

Records come as lists of numbers: with `np.ndarray`, as in BentoML's own XGBoost example, some 14 % fewer are answered.
A coroutine runs on the event loop; a plain method would go through a thread for each record, which is slower.
"""

import os
from typing import Final

import bentoml
import numpy as np
import xgboost as xgb

MODEL: Final = os.environ["CALORIES_MODEL"]
WITHOUT_ACCESS_LOG: Final = {"access": {"enabled": False}}


def sums(trees: xgb.Booster, rows: list[list[float]]) -> list[float]:
    """Return the sum of the trees for each row; the client undoes the transform of the target."""
    return trees.inplace_predict(np.array(rows, dtype=np.float32), validate_features=False).tolist()


@bentoml.service(workers=1, logging=WITHOUT_ACCESS_LOG)
class OneByOne:
    """Each record goes through the trees alone."""

    def __init__(self) -> None:
        self.trees = xgb.Booster({"nthread": 1}, model_file=MODEL)

    @bentoml.api
    async def predict(self, features: list[float]) -> float:
        """Return the sum of the trees for a record."""
        return sums(self.trees, [features])[0]


@bentoml.service(workers=1, logging=WITHOUT_ACCESS_LOG)
class InBatches:
    """BentoML's adaptive batching: records that wait at the same time go through the trees together."""

    def __init__(self) -> None:
        self.trees = xgb.Booster({"nthread": 1}, model_file=MODEL)

    # As large as a batch can be with 16 connections. A latency limit that is short makes it refuse requests with 503.
    @bentoml.api(batchable=True, max_batch_size=16, max_latency_ms=1000)
    async def predict(self, features: list[list[float]]) -> list[float]:
        """Return the sum of the trees for each record."""
        return sums(self.trees, features)

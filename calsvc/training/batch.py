"""Many rows at once: through XGBoost where the bundle has trees, else through the worker. Needs the train extra."""

from typing import Final

import anyio
import numpy as np
from numpy.typing import NDArray

from calsvc.http.errors import ScoringError
from calsvc.model.bundle import TREES, Bundle
from calsvc.model.features import columns_function
from calsvc.model.scorer import open_scorer
from calsvc.model.target import columns_to_kcal
from calsvc.settings import Settings
from calsvc.training import sample
from calsvc.training.convert import load_trees, margins
from calsvc.training.gate import squared_log_errors
from calsvc.training.rows import Rows

WORKER_ROWS: Final = 250
"""Held-out rows that a reference bundle is judged by: its worker takes some 20 ms for each."""


def predict_rows(bundle: Bundle, settings: Settings, rows: Rows) -> NDArray[np.float64]:
    """Return kcal for every row, shape (n,).

    Raises:
        ScoringError: a row has no finite prediction.
        BundleError: the engine cannot be started.
    """
    if bundle.manifest.engine == "reference":
        return anyio.run(_ask_worker, bundle, settings, rows)
    features = columns_function(bundle.manifest.feature_names)(rows.columns)
    sums = margins(load_trees(bundle.read(TREES)), features, bundle.manifest.trees)
    kcal = columns_to_kcal(bundle.manifest.target, sums)
    if not np.isfinite(kcal).all():
        raise ScoringError(f"the model gives no finite number for row {int(np.argmin(np.isfinite(kcal))) + 1}")
    return kcal


async def _ask_worker(bundle: Bundle, settings: Settings, rows: Rows) -> NDArray[np.float64]:
    scorer = await open_scorer(bundle, settings)
    try:
        return np.array([await scorer.score(workout) for workout in sample.workouts(rows.matrix)])
    finally:
        await scorer.aclose()


def rmsle(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the root mean squared error of log1p; a negative prediction counts as 0 kcal, as in the service."""
    return float(np.sqrt(np.mean(squared_log_errors(truth, predicted))))


def mae(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the mean absolute error in kcal."""
    return float(np.mean(np.abs(predicted - truth)))

"""What the record of a run says about the model, recomputed with polars. Pure: a frame in, numbers out.

The service answers a truth `matched` once; `duplicate` alone means that its `matched` was lost on the way. So a
prediction counts as joined when either was answered, and once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl

SCHEMA: Final = {
    "event": pl.String,
    "id": pl.String,  # whole numbers and texts alike; a run uses no id in both forms
    "predicted": pl.Float64,
    "truth": pl.Float64,
    "predicted_at": pl.Float64,
    "answered_at": pl.Float64,
    "status": pl.String,
}


class Report(NamedTuple):
    """The model's quality; errors over the joined predictions, None without any."""

    acknowledged: int
    joined: int
    statuses: Mapping[str, int]
    """What settled truths, by status; `given_up` where nothing did in time."""
    rmsle: float | None
    """Root mean squared logarithmic error: sqrt(mean((log1p(predicted) - log1p(truth))**2)).

    A negative prediction counts as 0 kcal here, as log1p has no value below -1.
    """
    mae: float | None
    """Mean absolute error in kcal."""
    coverage: float | None
    """joined / acknowledged."""
    lag_mean: float | None
    """Seconds from a prediction's acknowledgement to the answer to its truth."""
    lag_p50: float | None
    lag_max: float | None


def read_record(path: Path) -> pl.DataFrame:
    """Read the NDJSON file that `--record` writes."""
    if not path.stat().st_size:
        return pl.DataFrame(schema=SCHEMA)
    return pl.read_ndjson(path, schema=SCHEMA)


def compute(record: pl.DataFrame) -> Report:
    """Compute the report of a record of the columns in `SCHEMA`."""
    answers = record.filter(pl.col("event") == "feedback")
    acknowledged = record.filter(pl.col("predicted").is_not_null())["id"].n_unique()
    joined = (
        answers.filter(pl.col("status").is_in(["matched", "duplicate"]), pl.col("predicted").is_not_null())
        .sort("answered_at")
        .unique("id", keep="first")
    )
    log_error = joined["predicted"].clip(lower_bound=0).log1p() - joined["truth"].log1p()
    lag = joined["answered_at"] - joined["predicted_at"]
    return Report(
        acknowledged=acknowledged,
        joined=len(joined),
        statuses=dict(answers["status"].value_counts().sort("status").iter_rows()),
        rmsle=_root(_mean(log_error**2)),
        mae=_mean((joined["predicted"] - joined["truth"]).abs()),
        coverage=len(joined) / acknowledged if acknowledged else None,
        lag_mean=_mean(lag),
        lag_p50=_number(lag.median()),
        lag_max=_number(lag.max()),
    )


def _mean(values: pl.Series) -> float | None:
    return _number(values.mean())


def _root(value: float | None) -> float | None:
    return None if value is None else float(value**0.5)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None

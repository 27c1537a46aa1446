"""The same trees in the two forms a bundle holds. Needs the train extra."""

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from calsvc.http.errors import ExportError
from calsvc.model.scorer import onnx_session

_OPSET = 15
"""Of the ONNX graph: fixed, so that a new converter does not need a new runtime."""


def margins(booster: xgb.Booster, features: NDArray[np.float32], trees: int) -> NDArray[np.float32]:
    """Return the sums of the first `trees` rounds, shape (n,), for features of shape (n, columns)."""
    matrix = xgb.DMatrix(features, feature_names=booster.feature_names, feature_types=booster.feature_types)
    sums: NDArray[np.float32] = booster.predict(matrix, output_margin=True, iteration_range=(0, trees))
    if sums.ndim != 1:
        raise ExportError(f"the trees give {sums.shape[1]} numbers for a row, one is needed")
    return sums


def first_trees(booster: xgb.Booster, trees: int) -> bytes:
    """Return a booster of the first `trees` rounds in XGBoost's binary JSON."""
    return bytes(booster[:trees].save_raw("ubj"))


def load_trees(content: bytes) -> xgb.Booster:
    """Return the booster that `first_trees` wrote."""
    booster = xgb.Booster()
    booster.load_model(bytearray(content))
    return booster


def to_onnx(trees: bytes) -> bytes:
    """Convert what `first_trees` wrote to ONNX: one float32 input of shape (n, columns), one output of margins (n, 1).

    Raises:
        ExportError: the converter does not know this kind of model.
    """
    # Loading these takes seconds, and only an export needs them.
    from onnxmltools import convert_xgboost  # noqa: PLC0415
    from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415

    booster = load_trees(trees)
    columns = booster.num_features()
    # The converter finds a column by the number in its name.
    booster.feature_names = [f"f{column}" for column in range(columns)]
    try:
        model = convert_xgboost(
            booster, initial_types=[("rows", FloatTensorType([None, columns]))], target_opset=_OPSET
        )
    except Exception as error:
        raise ExportError(
            f"these trees cannot be converted to ONNX: {error}; "
            "serve the handout's own code, slower, with: just train --engine reference"
        ) from error
    return bytes(model.SerializeToString())


def onnx_margins(model: bytes, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sums that ONNX Runtime computes, one row at a time as the service does, shape (n,)."""
    session = onnx_session(model)
    return np.array([session.run(None, {"rows": row[np.newaxis]})[0].item() for row in features], dtype=np.float32)

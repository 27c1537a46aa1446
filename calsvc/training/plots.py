"""Two pictures of a model's error, as PNG. No state outside the functions. Needs the train extra."""

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Kcal = NDArray[np.float64]
_INK: Final = "#1f5fa8"
_LINE: Final = "#444444"


def predicted_against_true(truth: Kcal, kcal: Kcal) -> bytes:
    """Draw each prediction over its truth, both of shape (n,) in kcal; on the line they agree."""

    def draw(axes: Any) -> None:
        top = float(max(truth.max(), kcal.max()))
        axes.plot([0, top], [0, top], color=_LINE, linewidth=1)
        axes.scatter(truth, kcal, s=8, alpha=0.35, color=_INK, linewidths=0)
        axes.set(xlabel="true (kcal)", ylabel="predicted (kcal)", title=f"Predicted against true, {len(truth)} rows")

    return _png(draw)


def residuals(truth: Kcal, kcal: Kcal) -> bytes:
    """Draw predicted - true over the truth, all of shape (n,) in kcal; above the line the model says too much."""

    def draw(axes: Any) -> None:
        axes.axhline(0, color=_LINE, linewidth=1)
        axes.scatter(truth, kcal - truth, s=8, alpha=0.35, color=_INK, linewidths=0)
        axes.set(xlabel="true (kcal)", ylabel="predicted - true (kcal)", title=f"Residuals, {len(truth)} rows")

    return _png(draw)


def _png(draw: Callable[[Any], None]) -> bytes:
    figure = Figure(figsize=(7, 5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes)
    axes.grid(visible=True, alpha=0.25)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()

"""The one place that runs the handout's code in a process of ours: the training process and the reference worker.

Never the service: unpickling runs whatever the file says. Needs the train extra.
"""

import importlib
import math
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calsvc.http.errors import ExportError


class Artefact(Protocol):
    """What train.py wrote: any object with the handout's own `predict(DataFrame) -> ndarray` of kcal."""

    def predict(self, frame: Any, /) -> Any:
        """Return kcal, one for each row of a pandas DataFrame."""


@contextmanager
def opened_artefact(handout: Path, file: Path) -> Iterator[Artefact]:
    """Yield the unpickled artefact; the handout's modules are importable only inside.

    Inside, the working directory is a temporary one: whatever the handout writes to a relative path is gone afterwards.

    Raises:
        ExportError: the train extra is missing, the handout's module or the file cannot be loaded.
    """
    file = file.resolve()
    with _importable(handout), TemporaryDirectory(prefix="calsvc-handout-") as scratch, chdir(scratch):
        try:
            import joblib  # noqa: PLC0415 - the train extra; the service imports this module's neighbours without it

            importlib.import_module("model")
            artefact = joblib.load(file)
        except ModuleNotFoundError as error:
            raise ExportError(
                f"{handout / 'model.py'} needs the module {error.name}, which is not installed here; "
                "install it beside calsvc's train extra: uv sync --extra train"
            ) from None
        except Exception as error:
            raise ExportError(f"{handout / 'model.py'} or its artefact cannot be loaded: {_said(error)}") from error
        if not callable(getattr(artefact, "predict", None)):
            raise ExportError(f"{file.name} holds a {type(artefact).__name__} without a predict method")
        yield artefact


def predicted(artefact: Artefact, frame: Any) -> float:
    """Return the handout's own prediction (kcal) for a DataFrame of exactly one row.

    Raises:
        ExportError: its predict fails, or gives something else than one finite number.
    """
    try:
        (kcal,) = np.asarray(artefact.predict(frame), dtype=np.float64).ravel().tolist()
    except Exception as error:
        raise ExportError(f"the handout's own predict fails on one row: {_said(error)}") from error
    if not math.isfinite(kcal):
        raise ExportError(f"the handout's own predict gives {kcal} for a valid row")
    return float(kcal)


def predicted_together(artefact: Artefact, frame: Any) -> NDArray[np.float64]:
    """Return the handout's own predictions (kcal, shape (n,), not all of them finite perhaps) for a batch of n rows.

    Raises:
        ExportError: its predict fails, or gives something else than a number for each row.
    """
    try:
        kcal = np.asarray(artefact.predict(frame), dtype=np.float64).ravel()
    except Exception as error:
        raise ExportError(f"the handout's own predict fails on {len(frame)} rows: {_said(error)}") from error
    if len(kcal) != len(frame):
        raise ExportError(f"the handout's own predict gives {len(kcal)} numbers for {len(frame)} rows")
    return kcal


@contextmanager
def _importable(handout: Path) -> Iterator[None]:
    """Put the handout first on the import path, and take everything back afterwards: the next one has a `model` too."""
    home = handout.resolve()
    ours = {each.stem: sys.modules.pop(each.stem) for each in home.iterdir() if each.stem in sys.modules}
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(home))
        sys.dont_write_bytecode = writes_bytecode
        for name in [name for name, module in sys.modules.items() if _lies_in(module, home)]:
            del sys.modules[name]
        sys.modules.update(ours)


def _lies_in(module: Any, home: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).is_relative_to(home)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

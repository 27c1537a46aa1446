"""The one place that runs the handout's code in a process of ours: the training process and the reference worker.

Never the service: unpickling runs whatever the file says. Needs the train extra.
"""

import importlib
import math
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from calsvc.http.errors import ExportError

_STDLIB: Final = Path(sysconfig.get_path("stdlib"))
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


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
    """Put the handout first on the import path, and take everything back afterwards: the next one has a `model` too.

    Modules that are loaded step aside for the handout's own of the same name, libraries excepted: half a library cannot
    be loaded twice, and whatever else lies in the handout under its name (`numpy.ipynb`) is no module.
    """
    home = handout.resolve()
    names = {name for name in _modules_in(home) if name == "model" or not _is_library(sys.modules.get(name))}
    aside = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names}
    for name in aside:
        del sys.modules[name]
    loaded = set(sys.modules)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(home))
        sys.dont_write_bytecode = writes_bytecode
        for name in set(sys.modules) - loaded:
            if _lies_in(sys.modules[name], home) and not _is_library(sys.modules[name]):
                del sys.modules[name]
        sys.modules.update(aside)


def _modules_in(home: Path) -> set[str]:
    """Return the names under which the folder's own Python files and packages are imported."""
    packages = {each.parent.name for each in home.glob("*/*.py")}
    return (packages | {each.stem for each in home.glob("*.py")}) - {"__main__"}


def _is_library(module: Any) -> bool:
    """Tell whether a loaded module is Python's own or installed."""
    if module is None:
        return False
    places = _places(module)
    installed = any(_INSTALLED & set(place.parts) for place in places)
    return not places or installed or any(place.is_relative_to(_STDLIB) for place in places)


def _lies_in(module: Any, home: Path) -> bool:
    return any(place.is_relative_to(home) for place in _places(module))


def _places(module: Any) -> list[Path]:
    """Return where a module was loaded from: its file, or the folders of a package without one; none where built in."""
    file = getattr(module, "__file__", None)
    paths = [file] if isinstance(file, str) else list(getattr(module, "__path__", ()))
    return [Path(each) for each in paths]


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"

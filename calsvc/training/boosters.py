"""Find the trees, and what they call their columns, inside an object of any shape. Needs the train extra."""

from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

import numpy as np
import xgboost as xgb

from calsvc.http.errors import ExportError, UnknownFeatures
from calsvc.model.features import plain_name, row_function

_DEEPEST: Final = 8
_CLOSED: Final = (str, bytes, int, float, complex, type(None), type, FunctionType, MethodType, ModuleType)
_INSTEAD: Final = "serve the handout's own code, slower, with: just train --engine reference"


class Found(NamedTuple):
    """The booster, the names of its columns in order, and where it was (`model.pipeline.steps[1][1]`)."""

    booster: xgb.Booster
    feature_names: list[str]
    path: str


def find_booster(artefact: Any) -> Found:
    """Return the one gradient-boosted tree model in `artefact`, whose feature names all have formulas.

    Raises:
        ExportError: there is none, there are several, it does not consist of trees, or its columns have no names.
        UnknownFeatures: some names have no formula.
    """
    everything = list(walk(artefact, "artefact"))
    boosters = _distinct(everything)
    if len(boosters) != 1:
        found = f"XGBoost models at {', '.join(boosters)}" if boosters else "no fitted XGBoost model"
        raise ExportError(f"{type(artefact).__name__} holds {found}, one is needed to export its trees; {_INSTEAD}")
    ((path, booster),) = boosters.items()
    try:
        booster.num_boosted_rounds()
        booster[:1]
    except (xgb.core.XGBoostError, IndexError):
        raise ExportError(f"the XGBoost model at {path} does not consist of trees; {_INSTEAD}") from None
    return Found(booster, _names(booster, [each for _, each in everything]), path)


def walk(root: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every object reachable through attributes and containers, with its path, each once, breadth first."""
    seen: set[int] = set()
    level = [(name, root)]
    for _ in range(_DEEPEST):
        fresh = []
        for path, each in level:
            if id(each) not in seen and not isinstance(each, _CLOSED):
                seen.add(id(each))
                fresh.append((path, each))
        yield from fresh
        level = [child for path, each in fresh for child in _children(path, each)]


def _children(path: str, parent: Any) -> list[tuple[str, Any]]:
    if isinstance(parent, xgb.Booster | xgb.XGBModel | np.ndarray):
        return []
    if isinstance(parent, Mapping):
        return [(f"{path}[{key!r}]", each) for key, each in parent.items()]
    if isinstance(parent, list | tuple | set | frozenset):
        return [(f"{path}[{position}]", each) for position, each in enumerate(parent)]
    slots = (name for kind in type(parent).__mro__ for name in _slot_names(kind) if hasattr(parent, name))
    attributes = {name: getattr(parent, name) for name in slots} | getattr(parent, "__dict__", {})
    return [(f"{path}.{name}", each) for name, each in attributes.items()]


def _slot_names(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _distinct(everything: list[tuple[str, Any]]) -> dict[str, xgb.Booster]:
    """Return the boosters by path; a second reference to the same trees, or a copy of them, does not count."""
    found: dict[bytes, tuple[str, xgb.Booster]] = {}
    for path, each in everything:
        booster = _booster(each)
        if booster is not None:
            found.setdefault(bytes(booster.save_raw("ubj")), (path, booster))
    return dict(found.values())


def _booster(each: Any) -> xgb.Booster | None:
    if isinstance(each, xgb.XGBModel):
        # An estimator that was never fitted is a template that scikit-learn clones.
        return each.get_booster() if each.__sklearn_is_fitted__() else None
    return each if isinstance(each, xgb.Booster) else None


def _names(booster: xgb.Booster, objects: list[Any]) -> list[str]:
    """Return what the booster itself calls its columns, else what a transformer says it puts out, else a list of text.

    The parity proof decides whether the answer was right.
    """
    width = booster.num_features()
    sources = (
        [list(booster.feature_names or [])],
        [_names_out(each) for each in objects],
        [_texts(each) for each in objects],
    )
    for lists in sources:
        fitting = [names for names in lists if len(names) == width]
        known = {tuple(map(plain_name, names)): names for names in reversed(fitting) if _all_known(names)}
        if len(known) > 1:
            raise ExportError(
                f"the trees' {width} columns have no names, and several lists could name them; {_INSTEAD}"
            )
        if known:
            return next(iter(known.values()))
        if fitting:
            row_function(fitting[0])  # raises UnknownFeatures, with the names
    raise ExportError(f"the trees' {width} columns have no names, and no list beside them could name them; {_INSTEAD}")


def _all_known(names: list[str]) -> bool:
    try:
        row_function(names)
    except UnknownFeatures:
        return False
    return True


def _names_out(each: Any) -> list[str]:
    if not callable(getattr(each, "get_feature_names_out", None)):
        return []
    try:
        return _texts(each.get_feature_names_out())
    except Exception:  # noqa: BLE001 - an unfitted transformer, a step without names: it says nothing, then
        return []


def _texts(each: Any) -> list[str]:
    if not isinstance(each, list | tuple | np.ndarray):
        return []
    return [str(name) for name in each] if all(isinstance(name, str) for name in each) else []

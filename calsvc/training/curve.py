"""The learning curve, where an artefact has kept one: lists of numbers under a name like `evals_result_`. Pure."""

import math
import re
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, Final

from calsvc.training.boosters import walk

Curves = dict[str, list[tuple[int, float]]]
"""By name (`valid.rmse`): rounds, counted from 0, and the value after each."""
_NAMED: Final = re.compile(r"eval|histor|curve", re.IGNORECASE)
_LAST_NAME: Final = re.compile(r"(\w+)(?:'\])?$")
"""Of a path: the attribute, or the key of a mapping."""
_MOST_CURVES: Final = 16
_MOST_POINTS: Final = 1000


def learning_curves(artefact: Any) -> Curves:
    """Return the curves that an object holds anywhere inside; empty where there are none.

    Believed is a mapping of names to lists of numbers, nested or not, whose own name says what it is: XGBoost's
    `evals_result`, the `evals_result_` of its scikit-learn estimators, the `history` of its callbacks, and the like.
    """
    found: Curves = {}
    try:
        for path, each in walk(artefact, "artefact"):
            for held in _candidates(path, each):
                for label, values in _series(held, ""):
                    found.setdefault(label, _thinned(values))
    except Exception:  # noqa: BLE001 - somebody's object may raise anything when looked at; a curve is not worth a training
        return {}
    return dict(list(found.items())[:_MOST_CURVES])


def _candidates(path: str, each: Any) -> Iterator[Mapping[Any, Any]]:
    """Yield mappings that may hold curves: the object itself, and attributes that the walk does not go into."""
    own = _LAST_NAME.search(path)
    if isinstance(each, Mapping) and own and _NAMED.search(own[1]):
        yield each
    for name, held in getattr(each, "__dict__", {}).items():
        if isinstance(held, Mapping) and _NAMED.search(name):
            yield held


def _series(held: Any, name: str) -> Iterator[tuple[str, list[float]]]:
    """Yield the lists of numbers in nested mappings, under their keys joined with dots."""
    if isinstance(held, Mapping):
        for key, each in held.items():
            yield from _series(each, f"{name}.{key}" if name else str(key))
    elif isinstance(held, list | tuple) and len(held) > 1 and all(_is_number(each) for each in held):
        yield name, [float(each) for each in held]


def _is_number(each: Any) -> bool:
    return isinstance(each, Real) and not isinstance(each, bool)


def _thinned(values: list[float]) -> list[tuple[int, float]]:
    """Return at most about 1000 points, the last among them; what is not finite cannot be drawn."""
    step = max(1, math.ceil(len(values) / _MOST_POINTS))
    last = len(values) - 1
    return [(at, value) for at, value in enumerate(values) if (at % step == 0 or at == last) and math.isfinite(value)]

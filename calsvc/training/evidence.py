"""How does the handout get from its trees to kcal? Found out from its own predictions, not from its source. Pure.

Three things differ between handouts and are written nowhere a program could read: how many of the trees `predict`
uses, which transform of the target it undoes, and whether it clips. Each hypothesis predicts a number for every
row; the right one is wrong by float32 rounding only.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from calsvc.model.parity import TOLERANCE, relative_differences
from calsvc.model.target import TRANSFORMS, Target, columns_to_kcal

CERTAIN: Final = 1e-5
"""A hypothesis this close is taken without a search: a neighbouring number of trees may pass 1e-4 on these rows."""

Margins = Callable[[int], NDArray[np.float32]]
"""The sums of the first k trees, shape (n,), for k >= 1."""


class Hypothesis(NamedTuple):
    """Trees used and the way to kcal; `difference` is the largest relative one, `wrong` counts those above 1e-4."""

    trees: int
    target: Target
    difference: float
    wrong: int


def explain(truth: NDArray[np.float64], margins: Margins, hints: Iterable[int], grown: int) -> Hypothesis:
    """Return the hypothesis that explains `truth` (the handout's kcal, shape (n,)) best; it may still be wrong.

    `hints` are numbers of trees to try first; where none is certain, every number up to `grown` is tried.
    """
    first = [k for k in dict.fromkeys(hints) if 1 <= k <= grown]
    best = min((_best_target(truth, margins, k) for k in first), key=_badness)
    if best.difference <= CERTAIN:
        return best
    others = (_best_target(truth, margins, k) for k in range(1, grown + 1) if k not in first)
    return min([best, *others], key=_badness)


def with_bounds(target: Target, margins: NDArray[Any], truth: NDArray[np.float64]) -> Target:
    """Return `target` with the clip that `truth` shows.

    A bound is believed where at least two rows that ought to differ share one value, at the very end of all values.
    """
    for end, sign in (("low", 1.0), ("high", -1.0)):
        ours = columns_to_kcal(target, margins)
        beyond = (relative_differences(ours, truth) > TOLERANCE) & (sign * (truth - ours) > 0)
        if len(np.unique(ours[beyond])) < 2:
            continue
        bound = truth[beyond][0]
        if np.all(truth[beyond] == bound) and np.all(sign * (truth - bound) >= 0):
            target = replace(target, **{end: float(bound)})
    return target


def _best_target(truth: NDArray[np.float64], margins: Margins, trees: int) -> Hypothesis:
    sums = margins(trees)
    targets = [Target(transform) for transform in TRANSFORMS]
    return min((_judged(trees, with_bounds(each, sums, truth), sums, truth) for each in targets), key=_badness)


def _judged(trees: int, target: Target, sums: NDArray[Any], truth: NDArray[np.float64]) -> Hypothesis:
    differences = relative_differences(columns_to_kcal(target, sums), truth)
    return Hypothesis(trees, target, float(differences.max()), int((differences > TOLERANCE).sum()))


def _badness(hypothesis: Hypothesis) -> tuple[int, float]:
    return hypothesis.wrong, hypothesis.difference

"""Finding the trees in whatever object a data scientist pickled."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.pipeline import Pipeline

from calsvc.http.errors import ExportError, UnknownFeatures
from calsvc.training.boosters import find_booster

NAMES = ["num__Age", "num__Weight"]
_random = np.random.default_rng(0)
X, Y = _random.uniform(1, 2, (40, 2)), _random.uniform(1, 2, 40)


def booster(names: list[str] | None = NAMES, seed: int = 0, **settings: Any) -> xgb.Booster:
    """Train two trees."""
    settings = {"max_depth": 2, "seed": seed, "subsample": 0.5} | settings
    return xgb.train(settings, xgb.DMatrix(X, Y, feature_names=names), 2)


class Holder:
    """Any class of any handout."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    """A class without a __dict__."""

    __slots__ = ("trees",)

    def __init__(self, trees: xgb.Booster) -> None:
        self.trees = trees


def estimator() -> xgb.XGBRegressor:
    """Fit an estimator on an array, that is without names."""
    return xgb.XGBRegressor(n_estimators=2, max_depth=2).fit(X, Y)


@pytest.mark.parametrize(
    ("artefact", "path"),
    [
        (Holder(booster=booster()), "artefact.booster"),
        (Holder(deep={"er": [(1, Holder(trees=booster()))]}), "artefact.deep['er'][0][1].trees"),
        (Slotted(booster()), "artefact.trees"),
        (OrderedDict(model=booster()), "artefact['model']"),
        (booster(), "artefact"),
    ],
)
def test_trees_are_found_wherever_they_are(artefact: Any, path: str) -> None:
    """In attributes, slots, containers, or as the artefact itself."""
    found = find_booster(artefact)
    assert (found.path, found.feature_names) == (path, NAMES)


def test_an_object_that_holds_itself_is_walked_once() -> None:
    """Cycles end."""
    artefact = Holder(booster=booster())
    artefact.me = [artefact]
    assert find_booster(artefact).path == "artefact.booster"


def test_names_come_from_a_list_beside_trees_without_names() -> None:
    """As when XGBoost was given an array."""
    artefact = Holder(pipeline=Pipeline([("trees", estimator())]), columns=NAMES, others=["a", "b", "c"])
    assert find_booster(artefact).feature_names == NAMES


def test_names_come_from_the_transformer_before_the_trees() -> None:
    """ColumnTransformer says what it puts out."""
    import pandas as pd  # noqa: PLC0415

    columns = ColumnTransformer([("num", "passthrough", ["Age", "Weight"])]).fit(
        pd.DataFrame(X, columns=["Age", "Weight"])
    )
    assert find_booster(Pipeline([("columns", columns), ("trees", estimator())])).feature_names == NAMES


def test_a_template_that_was_never_fitted_is_no_model() -> None:
    """Scikit-learn's meta-estimators keep one beside the fitted clone."""
    artefact = TransformedTargetRegressor(xgb.XGBRegressor(n_estimators=2), func=np.log1p, inverse_func=np.expm1)
    artefact.fit(X, Y)
    artefact.names = NAMES
    assert find_booster(artefact).booster.num_boosted_rounds() == 2


def test_a_second_reference_or_a_copy_is_the_same_model() -> None:
    """A handout may keep its trees under two names."""
    trees = booster()
    assert find_booster(Holder(a=trees, b=trees, c=trees.copy())).path == "artefact.a"


@pytest.mark.parametrize(
    ("artefact", "told"),
    [
        (Holder(weights=[1, 2]), "Holder holds no fitted XGBoost model, one is needed"),
        (Holder(a=booster(), b=booster(seed=1)), r"XGBoost models at artefact\.a, artefact\.b"),
        (Holder(a=booster(None)), "2 columns have no names, and no list beside them"),
        (Holder(a=booster(None), b=NAMES, c=NAMES[::-1]), "several lists could name them"),
    ],
)
def test_what_cannot_be_exported_is_told_with_a_way_out(artefact: Any, told: str) -> None:
    """The handout's own code can still answer."""
    with pytest.raises(ExportError, match=f"{told}.*--engine reference"):
        find_booster(artefact)


@pytest.mark.filterwarnings("ignore:.*gblinear:UserWarning", "ignore:.*subsample:UserWarning")
def test_a_linear_model_is_told_apart() -> None:
    """XGBoost can also fit lines, which have no trees to export."""
    linear = xgb.train({"booster": "gblinear"}, xgb.DMatrix(X, Y, feature_names=NAMES), 2)
    with pytest.raises(ExportError, match=r"artefact\.a does not consist of trees"):
        find_booster(Holder(a=linear))


def test_unknown_names_are_told() -> None:
    """Each of them."""
    with pytest.raises(UnknownFeatures, match="num__Steps, num__VO2"):
        find_booster(booster(["num__Steps", "num__VO2"]))

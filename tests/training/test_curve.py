"""Where a learning curve may hide, and what is none."""

from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from calsvc.training.curve import learning_curves

LOGGED = {"valid": {"rmse": [0.5, 0.25, 0.125]}}
FOUND = {"valid.rmse": [(0, 0.5), (1, 0.25), (2, 0.125)]}


class Thing:
    """An object with any attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "artefact",
    [
        Thing(evals_result=LOGGED),
        Thing(fitted=Thing(evals_result_=LOGGED)),
        Thing(parts=[1, {"history": LOGGED}]),
        {"model": Thing(learning_curve={"valid.rmse": (0.5, 0.25, 0.125)})},
        Thing(history={"valid": {"rmse": [np.float32(0.5), np.float64(0.25), 0.125]}}),
    ],
)
def test_a_curve_is_found_by_its_name(artefact: Any) -> None:
    """As an attribute or under a key, directly or deep inside."""
    assert learning_curves(artefact) == FOUND


@pytest.mark.parametrize(
    "artefact",
    [
        Thing(),
        Thing(limits={"Age": [1.0, 120.0]}),
        Thing(history={"Age": ["a", "b"], "one": [1.0], "flags": [True, False], "text": "abc"}),
        3,
    ],
)
def test_other_lists_are_no_curves(artefact: Any) -> None:
    """Numbers under another name, or under the name something that is no list of numbers."""
    assert learning_curves(artefact) == {}


def test_the_curve_of_a_scikit_learn_estimator_is_found() -> None:
    """XGBoost keeps it in the estimator, which the search for trees does not look into."""
    x = np.arange(40.0).reshape(20, 2)
    model = xgb.XGBRegressor(n_estimators=3).fit(x, x[:, 0], eval_set=[(x, x[:, 0])], verbose=False)
    curves = learning_curves(Thing(steps=[("trees", model)]))
    assert [step for step, _ in curves["validation_0.rmse"]] == [0, 1, 2]


def test_a_long_curve_is_thinned_and_what_is_not_finite_left_out() -> None:
    """Its last point stays."""
    found = learning_curves(Thing(history={"loss": [float("nan"), *range(1, 4801)]}))["loss"]
    assert len(found) <= 1000
    assert found[0] == (5, 5.0)
    assert found[-1] == (4800, 4800.0)


def test_an_object_that_refuses_to_be_looked_at_has_no_curve() -> None:
    """It must not cost the training."""

    class Closed(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("closed")

    assert learning_curves(Closed()) == {}

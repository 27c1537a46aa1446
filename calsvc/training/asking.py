"""The handout's own predict as export asks it: single rows, and the same rows as a batch. Needs the train extra."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calsvc.handout.artefact import Artefact, predicted, predicted_together
from calsvc.handout.frame import CsvForm, frame_of
from calsvc.http.errors import ExportError
from calsvc.http.schema import Workout
from calsvc.model.parity import ParitySample, compare, described


class OwnPredict(NamedTuple):
    """An opened artefact, and what a row of its CSV looks like."""

    artefact: Artefact
    form: CsvForm

    def alone(self, row: Workout) -> float:
        """Return kcal for one row as `/predict` gets it: a batch may change what a handout answers."""
        return predicted(self.artefact, frame_of(self.form, [row]))

    def together(self, rows: Sequence[Workout]) -> NDArray[np.float64]:
        """Return kcal for the rows of one batch, shape (n,)."""
        return predicted_together(self.artefact, frame_of(self.form, rows))


class BatchCheck(NamedTuple):
    """How far the answers in a batch are from those to single rows.

    `max_relative_difference` is None where they cannot be compared; `warnings` is empty where they agree.
    """

    max_relative_difference: float | None
    warnings: tuple[str, ...]


def check_batches(predict: OwnPredict, proof: ParitySample) -> BatchCheck:
    """Ask the rows of the proof as one batch, and as another in the opposite order, and compare with its predictions.

    A handout whose answer to a row depends on the other rows contradicts itself: at most one of its answers is right.
    """
    rows, alone = proof.rows, np.array(proof.predictions)
    try:
        batch, reverse = predict.together(rows), predict.together(rows[::-1])[::-1]
    except ExportError as error:
        return BatchCheck(None, (f"whether the handout answers single rows as it answers a batch is unknown: {error}",))
    outcome = max(compare(batch, alone), compare(reverse, alone), key=lambda each: each.max_relative_difference)
    if outcome.held:
        return BatchCheck(outcome.max_relative_difference, ())
    worst = outcome.worst
    warning = (
        f"the handout's own predict contradicts itself: {described(rows[worst])} (the worst row) is {alone[worst]:.6g} "
        f"kcal where the row is asked alone, {batch[worst]:.6g} kcal in a batch of {len(rows)} rows and "
        f"{reverse[worst]:.6g} kcal in that batch in the opposite order; the service asks for single rows, so its "
        "answers may be worse than train.py reports: ask for a predict that answers a row whatever the others are"
    )
    difference = outcome.max_relative_difference
    return BatchCheck(difference if np.isfinite(difference) else None, (warning,))

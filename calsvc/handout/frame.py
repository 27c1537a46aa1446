"""Workouts as the DataFrame that pandas would have read from the handout's own CSV.

Export and the reference worker ask the handout's predict with frames from here, so that both ask the same. What a frame
has to look like, `calsvc/training/form.py` finds in the CSV, and the bundle keeps it. Needs the train extra.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from calsvc.http.schema import Workout


class CsvForm(Struct, frozen=True):
    """The raw columns of a CSV in its order, each with the type that pandas gives it, and the words for the sexes.

    `words`: for each of the columns Sex and Gender that the CSV has, the word for male and the word for female.
    """

    types: dict[str, str]
    words: dict[str, tuple[str, str]]


def frame_of(form: CsvForm, workouts: Sequence[Workout]) -> Any:
    """Return workouts as a pandas DataFrame. Ids count from 0: no model may look at them."""
    import pandas as pd  # noqa: PLC0415 - the train extra; the bundle's reader imports the struct without it

    return pd.DataFrame({name: pd.Series(**_column(form, name, workouts)) for name in form.types})


def _column(form: CsvForm, name: str, workouts: Sequence[Workout]) -> dict[str, Any]:
    kind = form.types[name]
    if words := form.words.get(name):
        return {"data": [words[row.female] for row in workouts], "dtype": kind}
    if name == "id":
        numbers = range(len(workouts))
        return {"data": [str(each) for each in numbers] if kind == "object" else numbers, "dtype": kind}
    values = [getattr(row, name) for row in workouts]
    # A whole number may be followed by one that is not: of that CSV pandas would have made floats.
    whole = all(float(each).is_integer() for each in values)
    return {"data": values, "dtype": kind if whole or not kind.startswith(("int", "uint")) else "float64"}

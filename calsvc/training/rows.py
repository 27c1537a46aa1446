"""Read a CSV of workouts with polars and refuse, by file, line and column, what cannot be used. Needs the train extra.

The bounds are those of the service, so that no file holds a row that `/predict` would refuse.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

import numpy as np
import polars as pl
from msgspec import Meta
from numpy.typing import NDArray

from calsvc.http.errors import HandoutError
from calsvc.http.schema import LONGEST_ID, Feedback, Workout
from calsvc.model.features import INPUTS

NUMBERS: Final = INPUTS[1:]
TARGET: Final = "Calories"
_FEMALE: Final = {"female": 1.0, "f": 1.0, "male": 0.0, "m": 0.0}


class Rows(NamedTuple):
    """A valid file of n rows. `frame` keeps every column as the text it was, without blanks around names and cells.

    `columns` are the inputs as numbers.
    """

    frame: pl.DataFrame
    columns: dict[str, NDArray[np.float64]]
    target: NDArray[np.float64] | None
    """kcal, shape (n,); None where the file has no column Calories"""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The raw inputs, shape (n, 7), in the order of `features.INPUTS`."""
        return np.column_stack([self.columns[name] for name in INPUTS])

    def first(self, count: int) -> "Rows":
        """Return the first `count` rows, or all where there are fewer."""
        columns = {name: values[:count] for name, values in self.columns.items()}
        return Rows(self.frame.head(count), columns, None if self.target is None else self.target[:count])


def read_rows(file: Path, *, labelled: bool) -> Rows:
    """Read and validate a CSV; `labelled` demands the column Calories.

    Raises:
        HandoutError: naming file, line and column, and what to do.
    """
    frame = _read_text(file)
    wanted = ["id", *NUMBERS, *([TARGET] if labelled else [])]
    missing = [name for name in wanted if name not in frame.columns]
    if not {"Sex", "Gender"} & set(frame.columns):
        missing.append("Sex")
    if missing:
        raise HandoutError(f"{file}: missing column {', '.join(missing)}; its header is: {', '.join(frame.columns)}")
    if frame.is_empty():
        raise HandoutError(f"{file}: no rows under the header")
    _demand_ids(file, frame["id"])
    columns = {"female": _female(file, frame)} | {name: _numbers(file, frame, name, Workout) for name in NUMBERS}
    target = _numbers(file, frame, TARGET, Feedback) if TARGET in frame.columns else None
    return Rows(frame, columns, target)


def bounds(name: str, kind: type[Any] = Workout) -> tuple[float, float]:
    """Return the lowest and the highest plausible value of a field, as the service has them."""
    hint = get_type_hints(kind, include_extras=True)[name]
    (meta,) = (each for each in hint.__metadata__ if isinstance(each, Meta))
    low = float(np.nextafter(meta.gt or 0, np.inf)) if meta.ge is None else float(meta.ge)
    return low, np.inf if meta.le is None else float(meta.le)


def _read_text(file: Path) -> pl.DataFrame:
    try:
        # As text: a copy of a row is then the same row to the last digit, and an unreadable cell can be named.
        frame = pl.read_csv(file, infer_schema=False)
        # A handout's train.py gets a copy, and may strip nothing.
        return frame.rename(str.strip).with_columns(pl.all().str.strip_chars())
    except FileNotFoundError:
        raise HandoutError(f"{file} is missing") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise HandoutError(f"{file} cannot be read as CSV: {str(error).splitlines()[0]}") from None


def _numbers(file: Path, frame: pl.DataFrame, name: str, kind: type[Any]) -> NDArray[np.float64]:
    values = frame[name].cast(pl.Float64, strict=False).to_numpy()
    values = np.asarray(values, dtype=np.float64)
    low, high = bounds(name, kind)
    bad = ~((values >= low) & (values <= high))  # nan compares as False
    if bad.any():
        expected = f"a number {low:g}..{high:g}" if low >= 1 or low == 0 else f"a number above 0, up to {high:g}"
        raise _unreadable(file, frame[name], bad, expected)
    return values


def _female(file: Path, frame: pl.DataFrame) -> NDArray[np.float64]:
    found = [name for name in ("Sex", "Gender") if name in frame.columns]
    parsed = []
    for name in found:
        text = frame[name].str.to_lowercase()
        values = np.array([_FEMALE.get(each, np.nan) for each in text], dtype=np.float64)
        if (bad := np.isnan(values)).any():
            raise _unreadable(file, frame[name], bad, "male, female, m or f")
        parsed.append(values)
    if (bad := parsed[0] != parsed[-1]).any():
        raise _unreadable(file, frame[found[-1]], bad, "what the column Sex says")
    return parsed[0]


def _demand_ids(file: Path, ids: pl.Series) -> None:
    empty = (ids.is_null() | (ids == "")).fill_null(value=True).to_numpy()
    if empty.any():
        raise _unreadable(file, ids, empty, "an id")
    long = (ids.str.len_chars() > LONGEST_ID).to_numpy()
    if long.any():
        raise _unreadable(file, ids, long, f"an id of at most {LONGEST_ID} characters")
    repeated = ~ids.is_first_distinct().to_numpy()
    if repeated.any():
        raise _unreadable(file, ids, repeated, "an id that no row above has")


def _unreadable(file: Path, column: pl.Series, bad: Sequence[bool] | NDArray[np.bool_], expected: str) -> HandoutError:
    rows = np.flatnonzero(bad)
    text = column[int(rows[0])]
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    return HandoutError(
        f"{file}, line {int(rows[0]) + 2}, column {column.name}: {'nothing' if text is None else repr(text)} "
        f"where {expected} is expected{more}; correct or remove the row"
    )

"""What the rows of a CSV look like to pandas: found once, by export, and kept in the bundle. Needs the train extra."""

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calsvc.handout.frame import CsvForm
from calsvc.model.features import INPUTS
from calsvc.training.rows import Rows

_RAW: Final = frozenset({"id", "Sex", "Gender", *INPUTS[1:]})
_OTHER: Final = {"male": "female", "female": "male", "m": "f", "f": "m"}


def read_form(file: Path, rows: Rows) -> CsvForm:
    """Return the form of a CSV whose valid rows are `rows`. Of several words for a sex, the most frequent counts."""
    kinds = {name: str(kind) for name, kind in pd.read_csv(file, low_memory=False).dtypes.items() if name in _RAW}
    if kinds["id"] not in ("int64", "uint64", "float64"):
        kinds["id"] = "object"
    return CsvForm(kinds, {name: _words(rows, name) for name in ("Sex", "Gender") if name in kinds})


def _words(rows: Rows, name: str) -> tuple[str, str]:
    texts, female = rows.frame[name].to_numpy(), rows.columns["female"] == 1
    male, other = (_most_frequent(texts[sex].tolist()) for sex in (np.logical_not(female), female))
    return male or _counterpart(other), other or _counterpart(male)


def _most_frequent(words: list[str]) -> str:
    return Counter(words).most_common(1)[0][0] if words else ""


def _counterpart(word: str) -> str:
    """Return the word for the other sex in the manner of `word`: `F` for `M`, `Female` for `Male`."""
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other.title() if word.istitle() else other

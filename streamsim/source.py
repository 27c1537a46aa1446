"""Reads labelled rows with polars, refuses what cannot be replayed, and encodes the rest for `rows.Rows`.

`python -m streamsim.source FILE SEED` does so in a process of its own and writes the block to its standard output:
polars costs 40 MiB of resident memory that a run of hours would otherwise carry along.
"""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

from streamsim.errors import DataError
from streamsim.rows import MAX_ID_LENGTH, Rows

DEFAULT_DATA: Final = Path("data/holdout/stream.csv")
FEATURES: Final = ("Age", "Height", "Weight", "Duration", "Heart_Rate", "Body_Temp")
TRUTH: Final = "Calories"
NUMBERS: Final = (*FEATURES, TRUTH)


def load(path: Path, seed: int) -> Rows:
    """Read and shuffle the rows of a CSV file in a child process.

    Raises:
        DataError: the file is missing, unreadable or holds a row that cannot be replayed.
    """
    if not path.is_file():
        advice = "run: just holdout" if path == DEFAULT_DATA else "give --data a CSV file with a Calories column"
        raise DataError(f"{path}: no such file; {advice}")
    command = [sys.executable, "-m", "streamsim.source", str(path), str(seed)]
    child = subprocess.run(command, capture_output=True, check=False)
    if child.returncode != 0:
        reason = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DataError(reason or f"{path}: reading it ended with status {child.returncode}")
    return Rows(child.stdout)


def encode(path: Path, seed: int) -> bytes:
    """Return the rows of a CSV file as the block that `rows.Rows` reads, shuffled by `seed`.

    Raises:
        DataError: naming file, row and column.
    """
    import polars as pl  # noqa: PLC0415  the parent imports this module too, and must stay small

    try:
        frame = pl.read_csv(path, infer_schema=False).rename(str.strip)
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        raise DataError(f"{path}: not readable as CSV: {str(error).splitlines()[0]}") from None
    sex = _sex_column(path, frame.columns)
    columns = ["id", sex, *NUMBERS]
    texts = frame.select(pl.col(columns).str.strip_chars())
    parsed = texts.with_columns(pl.col(NUMBERS).cast(pl.Float64, strict=False))
    usable = pl.col(FEATURES).is_finite(), pl.col(TRUTH).is_finite() & (pl.col(TRUTH) >= 0)
    bad = parsed.select(pl.col("id", sex).fill_null("") == "", *(~each.fill_null(value=False) for each in usable))
    for column in columns:
        if bad[column].any():
            at = bad[column].arg_true()[0]
            raise _bad_cell(path, at, column, texts[column][at])
    if parsed.is_empty():
        raise DataError(f"{path}: it has a header and no rows")
    ids = _ids_json(path, parsed["id"].to_list())
    return _block(ids, parsed["Calories"].to_list(), parsed.select(sex, *FEATURES).write_ndjson(), seed)


def _sex_column(path: Path, columns: list[str]) -> str:
    for column in ("id", *NUMBERS):
        if column not in columns:
            raise DataError(f"{path}: column {column} is missing; it has: {', '.join(columns)}")
    for column in ("Sex", "Gender"):
        if column in columns:
            return column
    raise DataError(f"{path}: column Sex (or Gender) is missing; it has: {', '.join(columns)}")


def _bad_cell(path: Path, index: int, column: str, text: str | None) -> DataError:
    number = "a finite number, 0 or more" if column == TRUTH else "a finite number"
    wanted = number if column in NUMBERS else "a text"
    return DataError(
        f"{path}: row {index + 1} (line {index + 2}), column {column}: {text or 'empty'!r} is not {wanted}; "
        "correct or remove the row"
    )


def _ids_json(path: Path, ids: list[str]) -> list[str]:
    """Whole numbers stay numbers, anything else is text; each id once, and none that a later lap would make again."""
    known = set(ids)
    seen: set[str] = set()
    for index, each in enumerate(ids):
        stem, dot, lap = each.rpartition(".")
        if each in seen or (dot and lap.isdigit() and stem in known) or len(each) > MAX_ID_LENGTH:
            problem = f"longer than {MAX_ID_LENGTH}" if len(each) > MAX_ID_LENGTH else "not unique"
            raise DataError(
                f"{path}: row {index + 1} (line {index + 2}), column id: {each!r} is {problem}; "
                "a run needs every id once, also as <id>.<lap>"
            )
        seen.add(each)
    return [each if _is_int64(each) else json.dumps(each) for each in ids]


def _is_int64(text: str) -> bool:
    # Only the canonical form: "007" sent as 7 would be another record's id.
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(text)) == text and -(2**63) <= int(text) < 2**63


def _block(ids: list[str], truths: list[float], features: str, seed: int) -> bytes:
    lines = [f"{each}\t{truth!r}\t{row}" for each, truth, row in zip(ids, truths, features.splitlines(), strict=True)]
    random.Random(seed).shuffle(lines)  # noqa: S311  an order to replay, nothing to guess
    return ("\n".join(lines) + "\n").encode()


if __name__ == "__main__":
    try:
        sys.stdout.buffer.write(encode(Path(sys.argv[1]), int(sys.argv[2])))
    except DataError as problem:
        sys.exit(str(problem))

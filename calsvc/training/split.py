"""Which labelled rows the model learns from, and which it never sees. Command: `holdout.py`. Needs the train extra.

A row's side is decided by a hash of its inputs: rows that are the same workout land on the same side, in every split
with the same seed, whatever the order of the file.
"""

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from calsvc.handout.form import TEST, TRAIN, check_handout, fingerprint
from calsvc.http.errors import HandoutError
from calsvc.model.bundle import sha256
from calsvc.registry.files import replace_set
from calsvc.training.rows import Rows, read_rows


class Split(Struct, frozen=True, kw_only=True):
    """What `split.json` says: where the rows came from, for which handout, and how many went where."""

    source: str
    source_sha256: str
    handout_sha256: str
    seed: int
    fraction: float
    train_rows: int
    stream_rows: int


def make_split(handout: Path, out: Path, *, data: Path | None, fraction: float, seed: int) -> Split:
    """Split the labelled rows of `data` (a CSV, or a folder with train.csv; None: the handout's) into the folder `out`.

    Raises:
        HandoutError: a row cannot be used, one side would be empty, or `out` cannot be written.
    """
    check_handout(handout)
    source = handout / TRAIN if data is None else data / "train.csv" if data.is_dir() else data
    rows = read_rows(source, labelled=True)
    streamed = streamed_rows(rows, fraction, seed)
    if streamed.all() or not streamed.any():
        raise HandoutError(f"{source}: {len(streamed)} rows cannot be split with --fraction {fraction:g}")
    split = Split(
        source=str(source),
        source_sha256=sha256(source.read_bytes()),
        handout_sha256=fingerprint(handout),
        seed=seed,
        fraction=fraction,
        train_rows=int((~streamed).sum()),
        stream_rows=int(streamed.sum()),
    )
    files = {
        "train.csv": rows.frame.filter(~streamed).write_csv().encode(),
        "stream.csv": rows.frame.filter(streamed).write_csv().encode(),
        "split.json": msgspec.json.format(msgspec.json.encode(split), indent=2) + b"\n",
    }
    if (handout / TEST).is_file():
        files["test.csv"] = (handout / TEST).read_bytes()
    try:
        _demand_ours(out, handout)
        replace_set(out, files, mark="split.json")
    except OSError as error:
        raise HandoutError(f"cannot write the split to {error.filename or out}: {error.strerror}") from None
    return split


def streamed_rows(rows: Rows, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Tell for each row, shape (n,), whether it is held out; the same inputs always fall on the same side."""
    # + 0.0 makes one zero of the two; the workout is then the same bytes wherever it is the same numbers
    matrix = np.ascontiguousarray(rows.matrix + 0.0, dtype="<f8")
    limit, key = int(fraction * 2**64), str(seed).encode()
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in matrix)
    return np.array([int.from_bytes(digest, "big") < limit for digest in digests])


def existing_split(folder: Path) -> Split | None:
    """Return what the split in `folder` says, None where there is no complete one."""
    try:
        split = msgspec.json.decode((folder / "split.json").read_bytes(), type=Split)
    except (OSError, msgspec.DecodeError):
        return None
    complete = all((folder / name).is_file() for name in ("train.csv", "stream.csv"))
    return split if complete else None


def _demand_ours(out: Path, handout: Path) -> None:
    """Refuse to overwrite a train.csv that no split made, the handout's own above all."""
    foreign = (out / "train.csv").exists() and not (out / "split.json").exists()
    if foreign or out.resolve().is_relative_to(handout.resolve()):
        raise HandoutError(f"{out} was not made by just holdout: choose another --out")

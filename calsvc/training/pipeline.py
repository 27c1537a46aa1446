"""The stages from rows to a published bundle. `training.py` is the command. Needs the train extra."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, NamedTuple, Protocol

import anyio

from calsvc.errors import ExportError
from calsvc.handout.form import check_handout, fingerprint
from calsvc.handout.running import run_training
from calsvc.model.bundle import Bundle, Engine
from calsvc.model.scorer import open_scorer
from calsvc.settings import Settings
from calsvc.training import holdout
from calsvc.training.batch import predict_rows, rmsle
from calsvc.training.export import Draft, Source, export
from calsvc.training.publish import publish
from calsvc.training.rows import Rows, read_rows
from calsvc.training.split import existing_split, make_split

EngineChoice = Literal["onnx", "reference", "auto"]
_WORKER_ROWS: Final = 250
"""Held-out rows that a reference bundle is judged by: its worker takes some 20 ms for each."""


class Display(Protocol):
    """Where the progress goes."""

    def stage(self, name: str) -> None:
        """Begin a stage, and end the one before."""

    def detail(self, text: str) -> None:
        """Show what the current stage says of itself; the latest counts."""

    def warn(self, text: str) -> None:
        """Show something that matters although it stops nothing."""


class Summary(NamedTuple):
    """A published bundle and its error on `holdout_rows` rows that it was not trained on."""

    bundle: Bundle
    holdout_rmsle: float
    holdout_rows: int


def train_bundle(settings: Settings, choice: EngineChoice, out: Path, folder: Path, display: Display) -> Summary:
    """Split where needed, train, export, prove and publish to `out`; `folder` is the holdout.

    Raises:
        HandoutError: the handout or its data cannot be used.
        ExportError: the artefact cannot be exported (with `auto`: not even as a reference bundle).
        BundleError: the bundle cannot be written.
    """
    check_handout(settings.handout_dir)
    display.stage("split")
    _ensure_split(settings, folder, display)
    with TemporaryDirectory(prefix="calsvc-trained-") as scratch:
        display.stage("train")
        trained = run_training(settings.handout_dir, folder, Path(scratch), display.detail)
        source = Source(settings.handout_dir, trained, folder / "train.csv")
        draft = _export(choice, source, display)
    if draft.warning:
        display.warn(draft.warning)
    display.stage("publish")
    bundle = publish(draft.manifest, draft.files, out, lambda new: _prove(new, settings))
    display.stage("judge")
    held_out = read_rows(folder / "stream.csv", labelled=True)
    return _judged(bundle, settings, held_out)


def _ensure_split(settings: Settings, folder: Path, display: Display) -> None:
    split = existing_split(folder)
    if split is not None and split.handout_sha256 == fingerprint(settings.handout_dir):
        display.detail(f"{folder} is there: {split.train_rows} rows to train on, from {split.source}")
        return
    split = make_split(settings.handout_dir, folder, data=None, fraction=holdout.FRACTION, seed=holdout.SEED)
    display.detail(f"{split.train_rows} rows to train on, {split.stream_rows} held out")


def _export(choice: EngineChoice, source: Source, display: Display) -> Draft:
    if choice != "auto":
        return _export_as(choice, source, display)
    try:
        return _export_as("onnx", source, display)
    except ExportError as error:
        display.warn(f"{error}")
        display.warn("serving the handout's own code through a worker process instead: right, but slower")
        return _export_as("reference", source, display)


def _export_as(engine: Engine, source: Source, display: Display) -> Draft:
    display.stage(f"export ({engine})")

    def tell(done: int, total: int) -> None:
        display.detail(f"{done} of {total} rows predicted by the handout itself, to compare with")

    return export(engine, source, tell)


def _prove(bundle: Bundle, settings: Settings) -> None:
    """Open the very engine that will serve; it checks itself against the parity sample."""

    async def open_and_close() -> None:
        await (await open_scorer(bundle, settings)).aclose()

    anyio.run(open_and_close)


def _judged(bundle: Bundle, settings: Settings, held_out: Rows) -> Summary:
    if bundle.manifest.engine == "reference":
        held_out = held_out.first(_WORKER_ROWS)
    assert held_out.target is not None  # noqa: S101 - labelled rows were asked for
    kcal = predict_rows(bundle, settings, held_out)
    return Summary(bundle, rmsle(held_out.target, kcal), len(kcal))

"""The stages from rows to a published and registered bundle. `train.py` is the command. Needs the train extra."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple, Protocol

import anyio
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from calsvc.handout.form import check_handout, fingerprint
from calsvc.handout.running import run_training
from calsvc.http.errors import ExportError, RegistryError
from calsvc.model.bundle import Bundle, Engine
from calsvc.model.scorer import open_scorer
from calsvc.settings import Settings
from calsvc.training import holdout
from calsvc.training.batch import WORKER_ROWS, predict_rows, rmsle
from calsvc.training.export import Draft, Source, export
from calsvc.training.publish import publish
from calsvc.training.rows import Rows, read_rows
from calsvc.training.split import existing_split, make_split
from calsvc.training.tracking import Registered, Trained, TrainingRun, open_run

EngineChoice = Literal["onnx", "reference", "auto"]


class Display(Protocol):
    """Where the progress goes."""

    def stage(self, name: str) -> None:
        """Begin a stage, and end the one before."""

    def detail(self, text: str) -> None:
        """Show what the current stage says of itself; the latest counts."""

    def warn(self, text: str) -> None:
        """Show something that matters although it stops nothing."""


class Order(NamedTuple):
    """What is to be done: the engine, where the bundle goes, the folder of the split, and whether MLflow records it."""

    engine: EngineChoice
    out: Path
    holdout: Path
    track: bool


class Summary(NamedTuple):
    """A published bundle and its error on `holdout_rows` rows that it was not trained on."""

    bundle: Bundle
    holdout_rmsle: float
    holdout_rows: int
    registered: Registered | None


def train_bundle(settings: Settings, order: Order, display: Display) -> Summary:
    """Split where needed, train, export, prove, publish, and record it all in MLflow.

    Raises:
        HandoutError: the handout or its data cannot be used.
        ExportError: the artefact cannot be exported (with `auto`: not even as a reference bundle).
        BundleError: the bundle cannot be written.
        RegistryError: MLflow does not answer (with `auto`: a warning instead).
    """
    check_handout(settings.handout_dir)
    run = _open_run(settings, order, display)
    with TemporaryDirectory(prefix="calsvc-trained-") as scratch:
        try:
            trained = _trained(settings, order, Path(scratch), run.run_id if run else None, display)
        except BaseException as error:
            if run is not None:
                run.fail(error)
            raise
        registered = _recorded(run, trained, order, display)
    return Summary(trained.bundle, rmsle(trained.truth, trained.kcal), len(trained.truth), registered)


def _trained(settings: Settings, order: Order, scratch: Path, run_id: str | None, display: Display) -> Trained:
    display.stage("split")
    _ensure_split(settings, order.holdout, display)
    display.stage("train")
    began = time.monotonic()
    artefact = run_training(settings.handout_dir, order.holdout, scratch, display.detail)
    ended = time.monotonic()
    source = Source(settings.handout_dir, artefact, order.holdout / "train.csv")
    draft = _export(order.engine, source, display)
    seconds = {"train": ended - began, "export": time.monotonic() - ended}
    for warning in draft.warnings:
        display.warn(warning)
    display.stage("publish")
    manifest = replace(draft.manifest, mlflow_run_id=run_id)
    bundle = publish(manifest, draft.files, order.out, lambda new: _prove(new, settings))
    display.stage("judge")
    truth, kcal = _judged(bundle, settings, read_rows(order.holdout / "stream.csv", labelled=True))
    return Trained(source, bundle, truth, kcal, draft.curves, seconds)


def _open_run(settings: Settings, order: Order, display: Display) -> TrainingRun | None:
    """Open the run before anything takes long; `auto` is for a service that shall start, with or without MLflow."""
    if not order.track:
        return None
    display.stage("track")
    try:
        return open_run(settings)
    except (RegistryError, ModuleNotFoundError) as error:
        if order.engine != "auto":
            if isinstance(error, RegistryError):
                raise RegistryError(f"{error}; or train without it: just train --no-track") from error
            raise
        display.warn(f"{error}; training goes on, MLflow will not know of it")
        return None


def _recorded(run: TrainingRun | None, trained: Trained, order: Order, display: Display) -> Registered | None:
    if run is None:
        return None
    display.stage("register")
    try:
        return run.record(trained)
    except RegistryError as error:
        version = trained.bundle.manifest.model_version
        told = f"{error}; {version} is in {order.out}, but not in the registry"
        if order.engine != "auto":
            raise RegistryError(f"{told}: repeat just train") from error
        display.warn(told)
        return None


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
        display.warn("serving the handout's own code through a worker process instead, slower")
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


def _judged(bundle: Bundle, settings: Settings, held_out: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return truth and prediction (kcal) of held-out rows, of a few where a worker has to answer them."""
    if bundle.manifest.engine == "reference":
        held_out = held_out.first(WORKER_ROWS)
    assert held_out.target is not None  # noqa: S101 - labelled rows were asked for
    return held_out.target, predict_rows(bundle, settings, held_out)

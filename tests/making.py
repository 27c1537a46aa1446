"""Trains and exports handouts for tests."""

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import pytest
from msgspec.structs import replace

from calsvc.handout.running import TrainedArtefact, run_training
from calsvc.model.bundle import Bundle, Manifest
from calsvc.settings import Settings
from calsvc.training.export import Source, export
from calsvc.training.publish import publish
from calsvc.training.split import make_split
from tests.needs import needed

T = TypeVar("T")


def folder_of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # each has a folder of its own in the run's


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], T]) -> T:
    """Return what `make` returns for an empty folder. It is called once per test run, by the first process that asks.

    The other processes get a pickled copy, or the error.
    """
    run = folder_of_run(tmp_path_factory)
    made, failed = run / f"{name}.pickle", run / f"{name}.failed"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        if failed.exists():
            raise RuntimeError(f"another test could not make {name}: {failed.read_text()}")
        if not made.exists():
            folder = run / name
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
            folder.mkdir()
            try:
                content = pickle.dumps(make(folder))
            except BaseException as error:
                failed.write_text(repr(error))
                raise
            made.with_suffix(".new").write_bytes(content)
            made.with_suffix(".new").rename(made)
    return cast(T, pickle.loads(made.read_bytes()))  # noqa: S301 - a process of this run has written it


class Trained(NamedTuple):
    """A handout, the split of its rows, what its train.py left, and the bundle made of it."""

    handout: Path
    holdout: Path
    artefact: TrainedArtefact
    bundle: Bundle

    @property
    def settings(self) -> Settings:
        """Settings that name this handout and this bundle."""
        return Settings(handout_dir=self.handout, model=self.bundle.folder)


def train(handout: Path, folder: Path) -> tuple[Source, Path]:
    """Split and train a handout; return what can be exported, and the folder of the split."""
    make_split(handout, folder / "holdout", data=None, fraction=0.3, seed=0)
    (folder / "trained").mkdir(parents=True)
    artefact = run_training(handout, folder / "holdout", folder / "trained", lambda _: None)
    return Source(handout, artefact, folder / "holdout" / "train.csv"), folder / "holdout"


def silent(_done: int, _total: int) -> None:
    """Report no progress."""


def trained_in(folder: Path, handout: Path) -> Trained:
    """Train, export and publish a handout under `folder`."""
    source, holdout = train(handout, folder)
    draft = export("onnx", source, silent)
    bundle = publish(draft.manifest, draft.files, folder / "bundle")
    return Trained(handout, holdout, source.trained, bundle)


def successor(manifest: Manifest, number: int) -> Manifest:
    """Return the manifest of a bundle made `number` seconds into another hour."""
    return replace(manifest, created_at=f"2030-01-01T00:{number // 60:02d}:{number % 60:02d}.000000Z")


def replace_in(file: Path, old: str, new: str) -> None:
    """Change the text of a handout's file, which must hold `old`."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def real_rows() -> Path:
    """Return the CSV of real rows that CALSVC_REAL_DATA names."""
    return Path(needed("real rows"))

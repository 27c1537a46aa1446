"""What many tests share: a small handout, trained once by the commands, and one by the functions behind them."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from calsvc.model.bundle import ONNX, PARITY, PROFILE, TREES, Bundle
from calsvc.training.export import Draft, Source, export
from calsvc.training.publish import publish
from observability.testing import listening
from tests.handouts import ALL_FEATURES, write_handout
from tests.making import Trained, silent, successor, trained_in

ASK_THE_HANDOUT = """
import csv, json, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import joblib, pandas as pd
artefact = joblib.load(sys.argv[2])
answers = {}
for row in json.load(sys.stdin):
    answers[row["id"]] = float(artefact.predict(pd.DataFrame([row]))[0])
json.dump(list(answers.items()), sys.stdout)
"""
"""The handout's own `predict`, one row at a time, in a process that knows nothing of calsvc."""


class Workshop(NamedTuple):
    """A folder in which a handout was split, trained and exported, as `just train` does in the checkout."""

    folder: Path
    handout: Path

    @property
    def bundle(self) -> Path:
        """The published bundle."""
        return self.folder / "data" / "bundle"

    @property
    def stream(self) -> Path:
        """The held-out rows, with their truth."""
        return self.folder / "data" / "holdout" / "stream.csv"

    def environ(self) -> dict[str, str]:
        """What a process needs to use this workshop."""
        return {"CALSVC_HANDOUT_DIR": str(self.handout), "CALSVC_MODEL": str(self.bundle)}


def run_module(folder: Path, module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` in `folder`, with output captured as text."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(autouse=True)
def declared_events_only() -> Iterator[None]:
    """No test passes in which an event was told with other attributes than it declares."""
    with listening() as listener:
        yield
    assert listener.complaints() == []


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A small handout in a folder with a space, trained and exported."""
    folder = tmp_path_factory.mktemp("work shop")
    handout = write_handout(folder / "hand out")
    trained = run_module(folder, "calsvc.training.train", CALSVC_HANDOUT_DIR=str(handout))
    assert trained.returncode == 0, trained.stderr
    return Workshop(folder, handout)


@pytest.fixture(scope="session")
def bundle(workshop: Workshop) -> Path:
    """The bundle of the small handout."""
    return workshop.bundle


@pytest.fixture(scope="session")
def handout_predictions(workshop: Workshop) -> dict[int, tuple[dict[str, Any], float]]:
    """By id: a held-out row, and what the handout's own predict says of it alone. The model is trained once more."""
    artefact = workshop.folder / "artefact.joblib"
    train = [sys.executable, "-B", "train.py", "--data-dir", str(workshop.folder / "data" / "holdout")]
    train += ["--config", "config.yaml", "--out", str(artefact), "--metrics", str(workshop.folder / "metrics.json")]
    threads = {"OMP_NUM_THREADS": "1"}
    subprocess.run(train, cwd=workshop.handout, env=os.environ | threads, check=True, capture_output=True)
    with workshop.stream.open(newline="") as file:
        rows = [
            {name: text if name in ("Sex", "Gender") else json.loads(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]
    asked = subprocess.run(
        [sys.executable, "-B", "-c", ASK_THE_HANDOUT, str(workshop.handout), str(artefact)],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = dict(json.loads(asked.stdout))
    return {row["id"]: (row, answers[row["id"]]) for row in rows}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The small handout with every known feature."""
    folder = tmp_path_factory.mktemp("trained")
    return trained_in(folder, write_handout(folder / "handout", features=ALL_FEATURES, rows=1500))


@pytest.fixture(scope="session")
def reference_draft(trained: Trained) -> Draft:
    """The same handout, to be answered by its own code."""
    source = Source(trained.handout, trained.artefact, trained.holdout / "train.csv")
    return export("reference", source, silent, rows=8)


@pytest.fixture
def republish(trained: Trained, tmp_path: Path) -> Callable[[int], Bundle]:
    """Publish the trained bundle once more, as its n-th successor, to `tmp_path/bundle`."""
    files = {name: trained.bundle.read(name) for name in (ONNX, PARITY, PROFILE, TREES)}

    def again(number: int) -> Bundle:
        return publish(successor(trained.bundle.manifest, number), files, tmp_path / "bundle")

    return again

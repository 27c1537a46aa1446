"""What many tests share: a small handout, trained once by the commands, and one by the functions behind them."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from calsvc.model.bundle import ONNX, PARITY, PROFILE, TREES, Bundle
from calsvc.training.export import Draft, Source, export
from calsvc.training.publish import publish
from observability.otel_environment import DEFAULTS
from observability.testing import listening
from tests import examples
from tests.handouts import ALL_FEATURES, write_handout
from tests.making import Trained, folder_of_run, once, silent, successor, trained_in
from tests.needs import NEEDS, needed_by

examples.load()
os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", DEFAULTS["OTEL_SEMCONV_STABILITY_OPT_IN"])

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--without NAME`: deselect the tests that need NAME. `--collected FILE`: write the needs of each test there."""
    parser.addoption("--without", action="append", default=[], choices=sorted(NEEDS), metavar="NAME")
    parser.addoption("--collected", type=Path, metavar="FILE")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need what is missing, and begin with the files that take longest."""
    without = set(config.getoption("--without"))
    left_out = [each for each in items if without & needed_by(each)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [each for each in items if not without & needed_by(each)]
    items.sort(key=lambda item: ("docker" not in needed_by(item), not item.nodeid.startswith("tests/live/")))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write for each test what it needs, and whether it measures time."""
    if file := session.config.getoption("--collected"):
        found = [(sorted(needed_by(each)), each.get_closest_marker("alone") is not None) for each in session.items]
        file.write_text(json.dumps(found))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates: workers send their reports as UTF-8."""
    report = yield
    report.sections = [(name, escaped(text)) for name, text in report.sections]
    if report.longrepr and (text := str(report.longrepr)) != escaped(text):
        report.longrepr = escaped(text)
    return report


def escaped(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return text.encode(errors="backslashreplace").decode()


@pytest.fixture(autouse=True)
def declared_events_only() -> Iterator[None]:
    """No test passes in which an event was logged with attributes it does not declare."""
    with listening() as listener:
        yield
    assert listener.complaints() == []


@pytest.fixture(scope="session", autouse=True)
def kept_trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where handouts of `write_handout` keep artefacts: identical ones are trained once per test run."""
    folder = folder_of_run(tmp_path_factory) / "trainings"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEPT_TRAININGS", str(folder))
        yield


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A small handout in a folder with a space, trained and exported."""

    def make(folder: Path) -> Workshop:
        handout = write_handout(folder / "hand out")
        trained = run_module(folder, "calsvc.training.train", CALSVC_HANDOUT_DIR=str(handout))
        assert trained.returncode == 0, trained.stderr
        return Workshop(folder, handout)

    return once(tmp_path_factory, "work shop", make)


@pytest.fixture(scope="session")
def bundle(workshop: Workshop) -> Path:
    """The bundle of the small handout."""
    return workshop.bundle


@pytest.fixture(scope="session")
def handout_predictions(
    workshop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[dict[str, Any], float]]:
    """By id: a held-out row, and what the handout's own predict says of it alone. The model is trained once more."""

    def make(folder: Path) -> list[tuple[dict[str, Any], float]]:
        artefact = folder / "artefact.joblib"
        train = [sys.executable, "-B", "train.py", "--data-dir", str(workshop.folder / "data" / "holdout")]
        train += ["--config", "config.yaml", "--out", str(artefact), "--metrics", str(folder / "metrics.json")]
        anew = {"OMP_NUM_THREADS": "1", "KEPT_TRAININGS": ""}
        subprocess.run(train, cwd=workshop.handout, env=os.environ | anew, check=True, capture_output=True)
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
        return [(row, answers[row["id"]]) for row in rows]

    return {row["id"]: (row, kcal) for row, kcal in once(tmp_path_factory, "predictions", make)}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The small handout with every known feature."""

    def make(folder: Path) -> Trained:
        return trained_in(folder, write_handout(folder / "handout", features=ALL_FEATURES, rows=1500))

    return once(tmp_path_factory, "trained", make)


@pytest.fixture(scope="session")
def reference_draft(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Draft:
    """The same handout, to be answered by its own code."""

    def make(_: Path) -> Draft:
        source = Source(trained.handout, trained.artefact, trained.holdout / "train.csv")
        return export("reference", source, silent, rows=8)

    return once(tmp_path_factory, "reference", make)


@pytest.fixture
def republish(trained: Trained, tmp_path: Path) -> Callable[[int], Bundle]:
    """Publish the trained bundle once more, as its n-th successor, to `tmp_path/bundle`."""
    files = {name: trained.bundle.read(name) for name in (ONNX, PARITY, PROFILE, TREES)}

    def again(number: int) -> Bundle:
        return publish(successor(trained.bundle.manifest, number), files, tmp_path / "bundle")

    return again

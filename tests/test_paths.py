"""Relative paths are of the folder in which just was called, not of the checkout in which it runs commands."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from calsvc.settings import Settings
from observability.paths import CALLED_IN, given_path
from streamsim.cli import DEFAULT_DATA, DEFAULT_JOURNAL, make_plan, parser
from streamsim.environ import token_of
from tests.conftest import Workshop
from tests.needs import needed, needs
from tests.training.test_commands import Run
from tests.training.test_commands import run as run_in

ROOT = Path(__file__).parents[1]
USERS = ["demo", "holdout", "k8s-stress", "mlflow", "predict", "promote", "serve", "stream", "stress", "train", "up"]
HEADER = "id,Sex,Age,Height,Weight,Duration,Heart_Rate,Body_Temp,Calories"


@pytest.fixture
def caller(tmp_path: Path) -> Path:
    """A folder from which somebody calls, with a name that a shell would take apart."""
    folder = tmp_path / "a caller's $(folder) ü"
    folder.mkdir()
    return folder


@pytest.fixture
def checkout(caller: Path, workshop: Workshop, tmp_path: Path) -> Path:
    """A folder with a bundle, in which just would run commands; the caller has the handout, and rows."""
    (caller / "hand out").symlink_to(workshop.handout)
    (caller / "mine.csv").write_bytes((workshop.handout / "data_sample" / "train.csv").read_bytes())
    (tmp_path / "checkout" / "data").mkdir(parents=True)
    (tmp_path / "checkout" / "data" / "bundle").symlink_to(workshop.bundle.resolve())
    return tmp_path / "checkout"


@pytest.mark.parametrize("text", ["rows.csv", "../rows.csv", "a/b/rows.csv", "./rows.csv"])
def test_a_relative_path_is_of_the_callers_folder(caller: Path, text: str):
    """An absolute one stays, and so does the mark of the standard output."""
    environ = {CALLED_IN: str(caller)}
    assert given_path(text, environ) == caller / text
    assert given_path(str(caller / text), {CALLED_IN: "/elsewhere"}) == caller / text
    assert given_path("-", environ) == Path("-")


def test_in_the_checkout_and_without_just_paths_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """So that what is printed stays short."""
    monkeypatch.chdir(tmp_path)
    assert given_path("rows.csv", {CALLED_IN: str(tmp_path)}) == given_path("rows.csv", {}) == Path("rows.csv")


def test_settings_that_are_paths_are_of_the_callers_folder(caller: Path):
    """Those that are given; defaults are of the checkout."""
    (caller / "token").write_text("secret")
    given = {
        "CALSVC_HANDOUT_DIR": "hand out",
        "CALSVC_MODEL": "bundle",
        "CALSVC_STORE": "sqlite:///waiting.db",
        "CALSVC_STORE_HELD": "/held",
        "CALSVC_TOKEN_FILE": "token",
        "MLFLOW_TRACKING_URI": "sqlite:///runs/mlflow.db",
    }
    found = Settings.from_env({CALLED_IN: str(caller), **given})
    assert (found.handout_dir, found.model, found.store_held) == (caller / "hand out", caller / "bundle", Path("/held"))
    assert found.store.get_secret_value() == f"sqlite:///{caller}/waiting.db"
    assert found.tracking_uri.get_secret_value() == f"sqlite:///{caller}/runs/mlflow.db"
    assert found.bearer == b"secret"
    assert Settings.from_env({CALLED_IN: str(caller)}) == Settings()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("CALSVC_STORE", "memory://"),
        ("CALSVC_STORE", "redis://127.0.0.1:6379/0"),
        ("CALSVC_STORE", "sqlite:////var/waiting.db"),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"),
        ("CALSVC_MODEL", "models:/calories@champion"),
    ],
)
def test_addresses_stay_as_they_are(caller: Path, key: str, text: str):
    """They name no file of the caller's."""
    assert Settings.from_env({CALLED_IN: str(caller), key: text}) == Settings.from_env({key: text})


def test_the_simulators_paths_are_of_the_callers_folder(caller: Path, monkeypatch: pytest.MonkeyPatch):
    """What it reads and what it writes, and the file of its token."""
    monkeypatch.setenv(CALLED_IN, str(caller))
    options = ["--data", "a.csv", "--journal", "b.db", "--record", "c.ndjson", "--report", "d/e.json"]
    plan = make_plan(given := parser().parse_args(["stream", *options]), None)
    assert (given.data, plan.journal, plan.record) == (caller / "a.csv", caller / "b.db", caller / "c.ndjson")
    assert given.report == caller / "d/e.json"
    stress = parser().parse_args(["stress", "500", "--report", "-"])
    assert (stress.data, stress.report) == (DEFAULT_DATA, Path("-"))
    assert parser().parse_args(["stream"]).journal == DEFAULT_JOURNAL
    (caller / "token").write_text("secret\n")
    assert token_of({"CALSVC_TOKEN_FILE": "token"}, "http://127.0.0.1") == "secret"


def called(caller: Path, command: str, *arguments: str, cwd: Path) -> Run:
    """Run a command in a folder as just does that was called in another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CALLED_IN, str(caller))
        return run_in(command, *arguments, cwd=cwd, handout="hand out")


@pytest.mark.slow
def test_holdout_and_predict_read_and_write_in_the_callers_folder(caller: Path, checkout: Path):
    """Handout, rows and results are there; the checkout gets nothing."""
    told = called(caller, "holdout", "--data", "mine.csv", "--out", "split", cwd=checkout)
    assert told.returncode == 0, told.stderr
    told = called(caller, "predict", "--data", "split/stream.csv", cwd=checkout)
    assert told.returncode == 0, told.stderr
    told = called(caller, "predict", "--data", "mine.csv", "--out", "o ut/p.csv", cwd=checkout)
    assert told.returncode == 0, told.stderr
    assert (caller / "predictions.csv").is_file()
    assert (caller / "o ut" / "p.csv").is_file()
    assert [each.name for each in checkout.iterdir()] == ["data"]


@pytest.mark.slow
def test_what_is_missing_is_named_where_it_was_looked_for(caller: Path, tmp_path: Path):
    """A whole path, since it is not of the folder in which the command runs."""
    told = called(caller, "predict", "--data", "none.csv", cwd=tmp_path)
    assert told.returncode == 1
    told = subprocess.run(
        [sys.executable, "-m", "streamsim", "stream", "--data", "none.csv"],
        env={CALLED_IN: str(caller)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{caller}/none.csv: no such file" in told.stderr


@needs("just")
@pytest.mark.parametrize("recipe", USERS)
def test_the_justfile_says_where_just_was_called(caller: Path, recipe: str):
    """Whatever the folder is called, and wherever the checkout is."""
    command = [needed("just"), "--justfile", ROOT / "justfile", "--working-directory", ROOT, "--dry-run", recipe]
    told = subprocess.run(command, cwd=caller, capture_output=True, text=True, check=True)
    assert f"{CALLED_IN}={caller}" in shlex.split(told.stderr)

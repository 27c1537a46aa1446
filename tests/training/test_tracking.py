"""What a training leaves in MLflow, in the embedded store; tests/live/test_mlflow.py asks a real server."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calsvc.http.errors import BundleError, HandoutError, RegistryError, SettingsError
from calsvc.model.bundle import load_bundle, sha256
from calsvc.registry.address import RegisteredModel
from calsvc.registry.embedded import database_of
from calsvc.settings import Settings
from calsvc.training.pipeline import Order, Summary, train_bundle
from calsvc.training.promotion import fetch
from calsvc.training.store import Store, aliases, download, experiment, open_store, speaking_to, version_of
from calsvc.training.tracking import open_run, read_params, usable_name
from tests.handouts import write_handout
from tests.http.test_probe import answering
from tests.service_process import free_port

pytestmark = pytest.mark.slow


class Notes:
    """A display that remembers what it was shown."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []

    def stage(self, name: str) -> None:
        """Remember a stage."""
        self.stages.append(name)

    def detail(self, text: str) -> None:
        """Forget a detail."""

    def warn(self, text: str) -> None:
        """Remember a warning."""
        self.warnings.append(text)


def settings_in(folder: Path, **others: Any) -> Settings:
    """Settings that keep everything in a folder."""
    return Settings(handout_dir=folder / "hand out", tracking_uri=f"sqlite:///{folder}/my runs/mlflow.db", **others)


def order_in(folder: Path, engine: Any = "onnx", track: bool = True) -> Order:
    """Train into a folder."""
    return Order(engine, folder / "data" / "bundle", folder / "data" / "holdout", track)


class Recorded(NamedTuple):
    """A tracked training, and what MLflow says of it."""

    folder: Path
    settings: Settings
    summary: Summary
    store: Store
    run: Any

    @property
    def kept(self) -> Path:
        """Where the run's files are on the disk."""
        return self.folder / "my runs" / "artifacts" / "my_model" / self.run.info.run_id / "artifacts"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A small handout whose artefact holds a learning curve, trained and recorded as `my model`."""
    folder = tmp_path_factory.mktemp("track ed")
    write_handout(folder / "hand out", nested=True)
    settings = settings_in(folder, model=RegisteredModel("my model", "champion"))
    with pytest.MonkeyPatch.context() as patch:
        (folder / "here").mkdir()
        patch.chdir(folder / "here")
        summary = train_bundle(settings, order_in(folder), Notes())
    assert summary.registered is not None
    store = open_store(settings.tracking_uri.get_secret_value())
    return Recorded(folder, settings, summary, store, store.client.get_run(summary.registered.run_id))


def test_the_run_holds_the_handouts_config_as_parameters(recorded: Recorded) -> None:
    """Flat, in the file's own names."""
    params = recorded.run.data.params
    assert params["data.valid_fraction"] == "0.2"
    assert params["model.trees"] == "best"
    assert json.loads(params["model.features"])[0] == "num__Workload"


def test_the_run_holds_the_errors_the_parity_and_the_durations(recorded: Recorded) -> None:
    """Those that train.py reports, and ours."""
    metrics, manifest = recorded.run.data.metrics, recorded.summary.bundle.manifest
    assert metrics["valid_rmsle"] == manifest.training_metrics["valid_rmsle"]
    assert metrics["holdout_rmsle"] == recorded.summary.holdout_rmsle
    assert metrics["holdout_rows"] == recorded.summary.holdout_rows
    assert metrics["parity_max_relative_difference"] == manifest.parity.max_relative_difference
    assert {"holdout_mae_kcal", "train_seconds", "export_seconds"} <= metrics.keys()
    assert recorded.run.info.status == "FINISHED"


def test_the_run_holds_the_learning_curve_step_by_step(recorded: Recorded) -> None:
    """As many steps as rounds were boosted, and an error that shrinks."""
    curve = recorded.store.client.get_metric_history(recorded.run.info.run_id, "validation_0.rmse")
    assert [point.step for point in curve] == list(range(len(curve)))
    assert len(curve) > recorded.summary.bundle.manifest.trees
    assert curve[-1].value < curve[0].value


def test_the_run_says_what_it_was_made_from(recorded: Recorded) -> None:
    """Data, handout, split, code, libraries."""
    tags, manifest = recorded.run.data.tags, recorded.summary.bundle.manifest
    train = recorded.folder / "data" / "holdout" / "train.csv"
    assert tags["data_sha256"] == sha256(train.read_bytes())
    assert tags["handout_sha256"] == manifest.handout_sha256
    assert (tags["split_seed"], tags["split_fraction"]) == ("0", "0.2")
    assert (tags["engine"], tags["trees"]) == ("onnx", str(manifest.trees))
    assert tags["library.numpy"] == manifest.libraries["numpy"]
    assert tags.get("git_sha") == manifest.git_sha
    assert recorded.run.info.run_name == tags["model_version"] == manifest.model_version


def test_the_runs_files_are_the_artefact_the_bundle_and_two_pictures(recorded: Recorded) -> None:
    """The bundle to the byte, with the run's id in its manifest."""
    published = recorded.summary.bundle.folder
    files = {file.relative_to(recorded.kept).as_posix(): file for file in recorded.kept.rglob("*") if file.is_file()}
    assert {name for name in files if not name.startswith("bundle/")} == {
        "artefact/artefact.joblib",
        "plots/predicted_against_true.png",
        "plots/residuals.png",
    }
    for file in published.iterdir():
        assert files[f"bundle/{file.name}"].read_bytes() == file.read_bytes()
    assert files["plots/residuals.png"].read_bytes().startswith(b"\x89PNG")
    assert load_bundle(published).manifest.mlflow_run_id == recorded.run.info.run_id


def test_the_first_version_is_the_challenger_and_can_be_fetched(recorded: Recorded, tmp_path: Path) -> None:
    """Its tags say which bundle it is, and its source names no path of this machine."""
    assert aliases(recorded.store, "my model") == {"challenger": "1"}
    version, manifest = version_of(recorded.store, "my model", "1"), recorded.summary.bundle.manifest
    assert version.tags == {
        "model_version": manifest.model_version,
        "holdout_rmsle": f"{recorded.summary.holdout_rmsle:.6f}",
        "handout_sha256": manifest.handout_sha256,
        "engine": "onnx",
    }
    assert version.source == f"mlflow-artifacts:/my_model/{recorded.run.info.run_id}/artifacts/bundle"
    assert fetch(recorded.store, version, tmp_path).manifest == manifest


def test_nothing_lands_in_the_working_directory(recorded: Recorded) -> None:
    """MLflow's own defaults would put a database or a folder of runs there."""
    assert list((recorded.folder / "here").iterdir()) == []


def test_a_failed_training_is_a_failed_run_and_the_same_error(tmp_path: Path) -> None:
    """The run says why; nothing is registered or published."""
    write_handout(tmp_path / "hand out", break_="train_crash")
    settings = settings_in(tmp_path)
    with pytest.raises(HandoutError, match="crashed on purpose"):
        train_bundle(settings, order_in(tmp_path), Notes())
    store = open_store(settings.tracking_uri.get_secret_value())
    (run,) = store.client.search_runs([store.client.get_experiment_by_name("calories").experiment_id])
    assert run.info.status == "FAILED"
    assert "crashed on purpose" in run.data.tags["failed_because"]
    assert aliases(store, "calories") == {}
    assert not (tmp_path / "data" / "bundle").exists()


def test_a_store_that_cannot_be_opened_stops_before_the_training(tmp_path: Path) -> None:
    """One error that names the setting and the way without."""
    write_handout(tmp_path / "hand out")
    (tmp_path / "my runs").write_text("a file where the folder should be")
    notes = Notes()
    with pytest.raises(RegistryError, match=r"MLFLOW_TRACKING_URI=sqlite:.* just train --no-track"):
        train_bundle(settings_in(tmp_path), order_in(tmp_path), notes)
    assert notes.stages == ["track"]


def test_a_service_that_wants_to_start_trains_without_the_store(tmp_path: Path) -> None:
    """With `auto` it is a warning, and the bundle is there."""
    write_handout(tmp_path / "hand out")
    (tmp_path / "my runs").write_text("a file where the folder should be")
    notes = Notes()
    summary = train_bundle(settings_in(tmp_path), order_in(tmp_path, "auto"), notes)
    assert summary.registered is None
    assert load_bundle(tmp_path / "data" / "bundle").manifest.mlflow_run_id is None
    (warning,) = notes.warnings
    assert "MLflow will not know of it" in warning


@pytest.mark.parametrize("engine", ["onnx", "auto"])
def test_a_store_that_fails_after_the_training_leaves_the_bundle(tmp_path: Path, engine: str) -> None:
    """It is published, its run is a failed one, nothing is registered; a service that wants to start is only warned."""
    write_handout(tmp_path / "hand out")
    settings, notes = settings_in(tmp_path), Notes()
    (tmp_path / "my runs").mkdir()
    (tmp_path / "my runs" / "artifacts").write_text("a file where the folder should be")
    if engine == "auto":
        assert train_bundle(settings, order_in(tmp_path, engine), notes).registered is None
        told = notes.warnings[0]
    else:
        with pytest.raises(RegistryError) as caught:
            train_bundle(settings, order_in(tmp_path, engine), notes)
        told = str(caught.value)
    manifest = load_bundle(tmp_path / "data" / "bundle").manifest
    assert f"{manifest.model_version} is in {tmp_path}/data/bundle, but not in the registry" in told
    store = open_store(settings.tracking_uri.get_secret_value())
    assert store.client.get_run(manifest.mlflow_run_id).info.status == "FAILED"
    assert aliases(store, "calories") == {}


def test_without_tracking_there_is_no_store(tmp_path: Path) -> None:
    """Not even an empty one."""
    write_handout(tmp_path / "hand out")
    assert train_bundle(settings_in(tmp_path), order_in(tmp_path, track=False), Notes()).registered is None
    assert not (tmp_path / "my runs").exists()


def test_a_server_that_is_down_is_named_without_its_password() -> None:
    """Found out by asking once."""
    with pytest.raises(RegistryError) as caught:
        open_store(f"http://me:secret@127.0.0.1:{free_port()}")
    assert "MLFLOW_TRACKING_URI=http://127.0.0.1" in str(caught.value)
    assert "just mlflow" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://me:s3cret@no.such.host.invalid", "http://me:s3cret@127.0.0.1:99999"])
def test_a_server_that_cannot_be_asked_is_named_without_its_password(address: str) -> None:
    """With or without a port: what libraries say of a host's name has no password either."""
    with pytest.raises(RegistryError, match=r"^MLFLOW_TRACKING_URI=http://") as caught:
        open_store(address)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_refuses_the_password_says_so_at_once() -> None:
    """Before anything is trained; it is there, so that no advice is given to start one."""
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    with answering(refusal) as port, pytest.raises(RegistryError, match=r"is of no use: .*401") as caught:
        open_store(f"http://me:s3cret@127.0.0.1:{port}")
    assert "just mlflow" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_what_mlflow_says_of_an_address_has_no_password() -> None:
    """Nor has a cause that a traceback would print."""
    with pytest.raises(RegistryError) as caught, speaking_to("http://me:s3cret@host"):
        raise OSError("API request to http://me:s3/cr@et@host/api failed")
    assert str(caught.value) == "MLFLOW_TRACKING_URI=http://host: API request to http://host/api failed"
    assert caught.value.__cause__ is None


def test_files_of_another_version_are_not_fetched(recorded: Recorded, tmp_path: Path) -> None:
    """The tag of the version says which bundle it is."""
    version = version_of(recorded.store, "my model", "1")
    with pytest.raises(BundleError, match="registered as another"):
        fetch(recorded.store, version._replace(tags={"model_version": "another"}), tmp_path)


def test_artifacts_that_are_gone_are_a_registry_error(recorded: Recorded, tmp_path: Path) -> None:
    """MLflow itself would download nothing and be content."""
    version = version_of(recorded.store, "my model", "1")._replace(source="mlflow-artifacts:/my_model/none")
    with pytest.raises(RegistryError, match="version 1 of my model has no files at mlflow-artifacts:/my_model/none"):
        fetch(recorded.store, version, tmp_path)


def test_artifacts_at_a_plain_path_are_read_there(recorded: Recorded, tmp_path: Path) -> None:
    """An experiment that was made by other means keeps its own location."""
    folder = download(recorded.store, f"{recorded.kept.as_uri()}/plots", tmp_path)
    assert (folder / "residuals.png").is_file()


ALIASES = ["champion", "2024-prod", "2024", "-", "_x", "_", "ünï", "x" * 255, "Prod", "v", "v1x"]
NO_ALIASES = ["x" * 256, "a.b", "a b", "a/b", ""]


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_that_mlflow_takes_can_be_served(recorded: Recorded, alias: str) -> None:
    """And is the one that MLflow has, for a model with a blank in its name, too."""
    recorded.store.client.set_registered_model_alias("my model", alias, "1")
    served = Settings.from_env({"CALSVC_MODEL": f"models:/my model@{alias}"}).model
    assert served == RegisteredModel("my model", alias)
    assert str(recorded.store.client.get_model_version_by_alias(*served).version) == "1"
    recorded.store.client.delete_registered_model_alias("my model", alias)


@pytest.mark.parametrize("alias", NO_ALIASES)
def test_what_mlflow_does_not_take_is_refused(recorded: Recorded, alias: str) -> None:
    """By both."""
    with pytest.raises(RegistryError), speaking_to(recorded.store.uri):
        recorded.store.client.set_registered_model_alias("my model", alias, "1")
    with pytest.raises(SettingsError):
        Settings.from_env({"CALSVC_MODEL": f"models:/my model@{alias}"})


def test_an_experiment_that_was_deleted_names_the_way_out(tmp_path: Path) -> None:
    """And that is one: the command brings it back, with a blank in the folder's name."""
    uri = f"sqlite:///{tmp_path}/my runs/mlflow.db"
    store = open_store(uri)
    number = experiment(store, "calories")
    store.client.delete_experiment(number)
    with pytest.raises(RegistryError, match="the experiment calories was deleted") as caught:
        open_run(Settings(tracking_uri=uri))
    *_, way_out = str(caught.value).partition("bring it back with ")
    variable, *command = shlex.split(way_out)
    assert command[:3] == ["uv", "run", "--all-extras"]
    environ = os.environ | dict([variable.split("=", 1)])
    subprocess.run([sys.executable, "-m", *command[3:]], env=environ, check=True, capture_output=True)
    assert open_run(Settings(tracking_uri=uri)).run.info.experiment_id == number


@pytest.mark.parametrize(
    ("uri", "database"),
    [
        ("sqlite:///mlruns/mlflow.db", Path("mlruns/mlflow.db")),
        ("sqlite:////srv/a b/x.db?timeout=5", Path("/srv/a b/x.db")),
        ("https://mlflow.example/x", None),
    ],
)
def test_the_database_of_a_tracking_uri(uri: str, database: Path | None) -> None:
    """A file; a server has none."""
    assert database_of(uri) == database


def test_parameters_are_short_and_not_too_many(tmp_path: Path) -> None:
    """A config is somebody else's file: deep, long, or not YAML at all."""
    config = {"a": {"b": {"c": [1, None]}}, "long": "x" * 9000, "": 1, 5: True}
    (tmp_path / "c.yaml").write_text(json.dumps(config | {f"k{n}": n for n in range(300)}))
    params = read_params(tmp_path / "c.yaml")
    assert (params["a.b.c"], params["5"], len(params["long"]), len(params)) == ("[1, null]", "true", 500, 200)
    (tmp_path / "c.yaml").write_text("a: [unclosed")
    assert read_params(tmp_path / "c.yaml") == {}
    (tmp_path / "c.yaml").write_text("a: &x {b: 1}\nc: *x\n")
    assert read_params(tmp_path / "c.yaml") == {"a.b": "1", "c.b": "1"}


@given(st.text(max_size=300))
def test_any_name_becomes_one_that_mlflow_accepts(text: str) -> None:
    """MLflow's own rule, and no path that leads upwards."""
    name = usable_name(text)
    assert re.fullmatch(r"[/\w.\- ]{1,200}", name)
    assert name.strip("/.") == name

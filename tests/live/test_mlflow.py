"""Training and promotion with a real MLflow server, asked over its REST API; and the embedded store beside it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from calsvc.model.bundle import MANIFEST, load_bundle
from calsvc.settings import Settings
from calsvc.training.display import PlainDisplay
from calsvc.training.judges import on_held_out_rows
from calsvc.training.pipeline import Order, train_bundle
from calsvc.training.promotion import Wish, promote
from tests.conftest import run_module
from tests.handouts import write_handout
from tests.service_process import PATIENCE, free_port

pytestmark = pytest.mark.slow


class Lab(NamedTuple):
    """A folder with a handout and an embedded store, and a server over that store."""

    folder: Path
    url: str
    embedded_run: str

    @property
    def embedded(self) -> Settings:
        """Settings that use the store without the server."""
        return Settings(handout_dir=self.folder / "hand out", tracking_uri=f"sqlite:///{self.folder}/mlruns/mlflow.db")

    def get(self, place: str, /, **query: str) -> bytes:
        """GET from the server."""
        address = f"{self.url}/{place}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:  # noqa: S310 - always http://127.0.0.1
            return bytes(answer.read())

    def ask(self, place: str, /, **query: str) -> Any:
        """GET from the REST API."""
        return json.loads(self.get(f"api/2.0/mlflow/{place}", **query))

    def run(self, command: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder."""
        settings = {"CALSVC_HANDOUT_DIR": "hand out", "MLFLOW_TRACKING_URI": ""} | environ
        return run_module(self.folder, f"calsvc.training.{command}", *arguments, **settings)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One training in embedded mode, then a server as `just mlflow` starts it."""
    folder = tmp_path_factory.mktemp("ml flow")
    write_handout(folder / "hand out", nested=True)
    lab = Lab(folder, f"http://127.0.0.1:{free_port()}", "")
    order = Order("onnx", folder / "data" / "bundle", folder / "data" / "holdout", track=True)
    registered = train_bundle(lab.embedded, order, PlainDisplay()).registered
    assert registered is not None
    assert registered.version == "1"
    with (folder / "server.log").open("w+b") as log:
        port = lab.url.rpartition(":")[2]
        command = [sys.executable, "-m", "calsvc.training.mlflow_ui", "--port", port]
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"MLFLOW_TRACKING_URI": ""}, stdout=log, stderr=log
        )
        try:
            _wait_for(lab, server, folder / "server.log")
            yield lab._replace(embedded_run=registered.run_id)
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE)
            with pytest.raises(urllib.error.URLError):
                lab.get("health")
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()


def _wait_for(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until the server answers."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        assert server.poll() is None, log.read_text()
        try:
            lab.get("health")
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="module")
def trained_remotely(lab: Lab) -> dict[str, Any]:
    """The run of a training through the server, as the REST API has it."""
    trained = lab.run("train", MLFLOW_TRACKING_URI=lab.url)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert "registered     calories version 2, alias challenger" in trained.stdout
    manifest = load_bundle(lab.folder / "data" / "bundle").manifest
    run = lab.ask("runs/get", run_id=str(manifest.mlflow_run_id))["run"]
    assert run["info"]["status"] == "FINISHED"
    return {
        name: {each["key"]: each["value"] for each in run["data"][name]} for name in ("params", "metrics", "tags")
    } | {"id": manifest.mlflow_run_id}


def test_a_server_has_params_metrics_and_tags_of_a_training(lab: Lab, trained_remotely: dict[str, Any]):
    """As the bundle on this side says them."""
    manifest = load_bundle(lab.folder / "data" / "bundle").manifest
    assert trained_remotely["params"]["data.valid_fraction"] == "0.2"
    assert trained_remotely["metrics"]["valid_rmsle"] == pytest.approx(manifest.training_metrics["valid_rmsle"])
    assert {"holdout_rmsle", "train_seconds", "export_seconds"} <= trained_remotely["metrics"].keys()
    assert trained_remotely["tags"]["model_version"] == manifest.model_version
    assert {"data_sha256", "handout_sha256", "library.numpy", "split_seed"} <= trained_remotely["tags"].keys()


def test_a_server_has_the_learning_curve_step_by_step(lab: Lab, trained_remotely: dict[str, Any]):
    """One point for each round."""
    history = lab.ask("metrics/get-history", run_id=trained_remotely["id"], metric_key="validation_0.rmse")["metrics"]
    assert [int(point["step"]) for point in history] == list(range(len(history)))
    assert len(history) > 5


def test_a_server_serves_the_files_of_a_run_that_went_through_it(lab: Lab, trained_remotely: dict[str, Any]):
    """The bundle to the byte, the artefact and the pictures, over HTTP alone."""
    run_id = trained_remotely["id"]
    listed = [each["path"] for each in lab.ask("artifacts/list", run_id=run_id)["files"]]
    assert listed == ["artefact", "bundle", "plots"]
    manifest = lab.get("get-artifact", run_id=run_id, path=f"bundle/{MANIFEST}")
    assert manifest == (lab.folder / "data" / "bundle" / MANIFEST).read_bytes()
    assert lab.get("get-artifact", run_id=run_id, path="plots/residuals.png").startswith(b"\x89PNG")


def test_a_server_serves_the_files_of_an_embedded_run(lab: Lab):
    """What was logged without a server is seen through one: by its page, and under the place that a version names."""
    assert lab.get("get-artifact", run_id=lab.embedded_run, path="plots/residuals.png").startswith(b"\x89PNG")
    version = lab.ask("model-versions/get", name="calories", version="1")["model_version"]
    assert version["run_id"] == lab.embedded_run
    place = version["source"].removeprefix("mlflow-artifacts:/")
    manifest = json.loads(lab.get(f"api/2.0/mlflow-artifacts/artifacts/{place}/{MANIFEST}"))
    assert manifest["mlflow_run_id"] == lab.embedded_run


def test_versions_move_through_the_server_and_without_it(lab: Lab, trained_remotely: dict[str, Any]):
    """Promoted through the server, then embedded, from files that came through the server; and rolled back."""
    del trained_remotely  # version 2 exists
    first = lab.run("promote", "--version", "1", "--by", "me", MLFLOW_TRACKING_URI=lab.url)
    assert (first.returncode, first.stderr) == (0, "")
    judge = on_held_out_rows(lab.embedded, lab.folder / "data" / "holdout" / "stream.csv", print)
    promote(lab.embedded, Wish(None, 0.02, "me"), judge)
    model = lab.ask("registered-models/get", name="calories")["registered_model"]
    assert {each["alias"]: each["version"] for each in model["aliases"]} == {"champion": "2", "previous": "1"}
    back = lab.run("rollback", MLFLOW_TRACKING_URI=lab.url)
    assert (back.returncode, back.stderr) == (0, "")
    version = lab.ask("registered-models/alias", name="calories", alias="champion")
    assert version["model_version"]["version"] == "1"
    tags = {each["key"]: each["value"] for each in version["model_version"]["tags"]}
    assert (tags["promoted_by"], tags["restored_from"]) == ("me", "2")


def test_a_server_that_is_down_stops_the_training_with_one_line(lab: Lab):
    """Before anything was trained; the bundle that was there stays."""
    before = (lab.folder / "data" / "bundle").readlink()
    uri = f"http://127.0.0.1:{free_port()}"
    stopped = lab.run("train", MLFLOW_TRACKING_URI=uri)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"error: MLFLOW_TRACKING_URI={uri} does not answer (")
    assert stopped.stderr.endswith("start it with just mlflow; or train without it: just train --no-track\n")
    assert stopped.stderr.count("\n") == 1
    assert "train ..." not in stopped.stdout
    assert (lab.folder / "data" / "bundle").readlink() == before


def test_a_port_that_is_taken_is_one_line(lab: Lab):
    """A second server on the same port is not even started."""
    taken = lab.run("mlflow_ui", "--port", lab.url.rpartition(":")[2])
    assert (taken.returncode, taken.stdout) == (1, "")
    assert "Address already in use; try --port" in taken.stderr

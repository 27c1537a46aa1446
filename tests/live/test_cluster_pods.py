"""What the cluster's pods run, really run: with the images of deploy/kustomize, as these users, with these files."""

import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from observability.signals import SERVICE_DRAINING, SERVICE_STOPPED
from tests.conftest import Workshop
from tests.deploy.cluster import KUSTOMIZE, objects_of
from tests.deploy.test_cluster_parties import IN_FLIGHT
from tests.http.test_schema import WORKOUT
from tests.live.containers import call, demand_images, wait_for
from tests.live.images import DEFAULTS, ours
from tests.live.pods import Yard
from tests.needs import needs

pytestmark = needs("docker")
LEAVING = (SERVICE_DRAINING.name, SERVICE_STOPPED.name)
BASES = {"calsvc": "serve", "calsvc-streamsim": "streamsim", "calsvc-training": "training"}


@pytest.fixture(scope="module")
def images(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Our images with model, rows and handout of the workshop inside, by the names that the manifests have."""
    demand_images(DEFAULTS["BASE_IMAGE"])
    context = tmp_path_factory.mktemp("context")
    shutil.copytree(workshop.bundle.resolve(), context / "bundle")
    shutil.copytree(workshop.handout, context / "handout")
    shutil.copy(workshop.stream, context / "stream.csv")
    built = {}
    for name, target in BASES.items():
        ours(target)
        built[f"{name}:dev"] = f"{name}:test-cluster"
        words = ["--file", KUSTOMIZE / "Dockerfile", "--target", name, "--tag", built[f"{name}:dev"], context]
        ended = subprocess.run(["docker", "build", *words], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-2000:]
    return built


@pytest.fixture(scope="module")
def yard(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """The pods of minikube's overlay; each test starts those that it needs."""
    folder = tmp_path_factory.mktemp("yard")
    folder.parent.chmod(0o755)
    found = Yard(f"calsvc-pods-{os.getpid()}", objects_of("minikube"), folder, images)
    try:
        yield found
    finally:
        found.remove()


def metrics(url: str) -> str:
    """The page of metrics at a URL."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - always http://127.0.0.1
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def serving(yard: Yard) -> Yard:
    """Valkey, one replica with the model of its image, the collector, Pyroscope, and the simulator."""
    demand_images(DEFAULTS["VALKEY_IMAGE"], DEFAULTS["COLLECTOR_IMAGE"], DEFAULTS["PYROSCOPE_IMAGE"])
    for owner in ("valkey", "collector", "pyroscope"):
        yard.start(owner)
    yard.start("calsvc", "calsvc")
    yard.start("streamsim")
    return yard


def test_a_replica_serves_the_model_in_its_image(serving: Yard):
    """Ready by its probes, with the settings of the cluster, as a user without privileges on a read-only root."""
    url = serving.url("calsvc", 8000)
    assert call(f"{url}/predict", WORKOUT)[0] == 200
    assert call(f"{url}/info")[1]["threads"]["OMP_NUM_THREADS"] == "1"  # half a core, rounded up
    assert re.search(r"^calsvc_store_degraded(\{.*\})? 0", metrics(url), re.MULTILINE)


def test_the_simulator_streams_rows_of_its_image(serving: Yard):
    """By its arguments of the manifest, to the service's name; every record is answered."""
    url = serving.url("streamsim", 9464)

    def answered() -> float:
        found = re.search(
            r'^streamsim_requests_total\{.*call="predict".*result="ok".*\} (\S+)$', metrics(url), re.MULTILINE
        )
        return float(found[1]) if found else 0

    wait_for("an answer to the simulator", answered)


def test_the_proxy_finds_replicas_by_the_clusters_name(serving: Yard):
    """By the configuration of the cluster, under the whole name that it asks for."""
    demand_images(DEFAULTS["HAPROXY_IMAGE"])
    serving.start("proxy")
    url = serving.url("proxy", 8080)
    wait_for("a replica behind the proxy", lambda: call_or_none(f"{url}/readyz"))
    assert call(f"{url}/predict", WORKOUT)[0] == 200
    told = metrics(serving.url("proxy", 8404))
    assert re.search(rf'^{IN_FLIGHT}\{{proxy="replicas".*\}} 0$', told, re.MULTILINE)


def call_or_none(url: str) -> bool:
    """Whether a URL answers with 200."""
    try:
        return call(url)[0] == 200
    except (OSError, json.JSONDecodeError):
        return False


def test_the_training_makes_a_champion(yard: Yard):
    """MLflow starts on its volume; the template trains, registers and promotes, one step after the other."""
    yard.start("mlflow")
    for number in (0, 1):
        ended = yard.complete("train", number)
        assert ended.code == 0, ended.said[-3000:]
    url = yard.url("mlflow", 5000)
    asked = f"{url}/api/2.0/mlflow/registered-models/alias?name=calories&alias=champion"
    assert call(asked)[1]["model_version"]["version"] == "1"


def test_a_replica_leaves_in_order_within_its_time(serving: Yard):
    """Exit code 0, and it says that it has drained for as long as it was told to."""
    ended = serving.stop("calsvc")
    assert ended.code == 0, ended.said[-2000:]
    told = [json.loads(line) for line in ended.said.splitlines() if line.startswith("{")]
    assert [each["event"] for each in told if each["event"] in LEAVING] == list(LEAVING)

"""The peers, each one declaration: what it needs, how it is run as fast as its makers know how, how it is asked."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from calsvc.handout.running import run_training
from tests.bench.peers.wire import PLACE_OF_ID, Question, number_at
from tests.service_process import free_port

SERVERS: Final = Path(__file__).parent / "servers"
"""Requirements of the venvs, and the code that runs in them."""
BATCH: Final = 16
"""Records that can wait at the same time: there are 16 connections."""


class Site(NamedTuple):
    """What a peer can use, as absolute paths: its interpreter, a folder of its own for model files, what was trained.

    `trees` is the bundle's model.ubj; `handout` is the data scientist's folder and `data` the rows it was trained on.
    """

    python: Path
    models: Path
    trees: Path
    handout: Path
    data: Path


class Peer(NamedTuple):
    """A model server.

    Args:
        name: in the table.
        venv: its requirements are `servers/VENV.txt`; peers may share one.
        path: where it predicts.
        body: what it is sent for one row; `PLACE_OF_ID` stands for the id where it takes one.
        number: takes the prediction out of its answer.
        sum_of_trees: whether that is what the trees add up to, with the target's transform still on it, or kcal.
        prepare: fills `Site.models`, an empty folder.
        command: the command line for a port of 127.0.0.1; the working directory is `Site.models`.
        environ: variables for the same, beside those that all peers get.
        remark: what is to be known about the figures.
    """

    name: str
    venv: str
    path: str
    body: Callable[[Question], Any]
    number: Callable[[bytes], float]
    sum_of_trees: bool
    prepare: Callable[[Site], None]
    command: Callable[[Site, int], Sequence[str | Path]]
    environ: Callable[[Site, int], Mapping[str, str]]
    remark: str


def environ_of(peer: Peer, site: Site, port: int) -> dict[str, str]:
    """Return what a peer's process adds to the environment: one thread, nothing written, nobody told."""
    return {
        "PATH": os.pathsep.join([str(site.python.parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "true",
        **peer.environ(site, port),
    }


def nothing_to_prepare(_: Site) -> None:
    """Leave the folder empty."""


def train_again(site: Site) -> None:
    """Let the handout train its artefact: the bundle keeps none."""
    run_training(site.handout, site.data, site.models, lambda _: None)


def save_with_mlflow(site: Site) -> None:
    """Let mlflow write its own form of the trees."""
    command = [site.python, "-B", SERVERS / "mlflow_save.py", site.trees, site.models / "saved"]
    environ = os.environ | MLFLOW_QUIET
    subprocess.run(command, env=environ, cwd=site.models, check=True, capture_output=True, text=True)


def write_mlserver_files(batching: Mapping[str, Any]) -> Callable[[Site], None]:
    """Return a function that writes settings for the xgboost runtime, and the trees beside them."""

    def write(site: Site) -> None:
        # debug: access log. gzip: the client does not ask for it. Metrics stay on, as they do in calsvc.
        server = {"debug": False, "host": "127.0.0.1", "parallel_workers": 0, "gzip_enabled": False}
        uri = {"uri": "./model.ubj", "content_type": "np"}
        model = {"name": "calories", "implementation": "mlserver_xgboost.XGBoostModel", "parameters": uri, **batching}
        (site.models / "settings.json").write_text(json.dumps(server))
        (site.models / "model-settings.json").write_text(json.dumps(model))
        shutil.copyfile(site.trees, site.models / "model.ubj")

    return write


def mlserver_request(question: Question) -> dict[str, Any]:
    """Return a request of the V2 inference protocol."""
    tensor = {"name": "features", "shape": [1, len(question.features)], "datatype": "FP32", "data": question.features}
    return {"id": str(PLACE_OF_ID), "inputs": [tensor]}


def mlserver(name: str, batching: Mapping[str, Any], remark: str) -> Peer:
    """Declare MLServer with one setting of its adaptive batching."""

    def environ(_: Site, port: int) -> dict[str, str]:
        ports = {"HTTP": port, "GRPC": free_port(), "METRICS": free_port()}
        return {f"MLSERVER_{protocol}_PORT": str(number) for protocol, number in ports.items()}

    return Peer(
        name=name,
        venv="mlserver",
        path="/v2/models/calories/infer",
        body=mlserver_request,
        number=number_at("outputs", 0, "data", 0),
        sum_of_trees=True,
        prepare=write_mlserver_files(batching),
        command=lambda site, _: [site.python, "-c", "from mlserver.cli import main; main()", "start", site.models],
        environ=environ,
        remark=f"xgboost runtime, parallel_workers=0, {remark}; without feature engineering",
    )


def bentoml(name: str, service: str, body: Callable[[Question], Any], answer: tuple[int, ...], remark: str) -> Peer:
    """Declare one of the services of servers/bentoml_service.py."""

    def command(site: Site, port: int) -> Sequence[str | Path]:
        where = ["--working-dir", SERVERS, "--host", "127.0.0.1", "--port", str(port)]
        return [site.python, "-m", "bentoml", "serve", f"bentoml_service:{service}", *where]

    return Peer(
        name=name,
        venv="bentoml",
        path="/predict",
        body=body,
        number=number_at(*answer),
        sum_of_trees=True,
        prepare=nothing_to_prepare,
        command=command,
        environ=lambda site, _: {
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(site.models),
            "CALORIES_MODEL": str(site.trees),
        },
        remark=f"1 worker, {remark}; without feature engineering",
    )


MLFLOW_QUIET: Final = {"MLFLOW_DISABLE_TELEMETRY": "true", "UVICORN_ACCESS_LOG": "0"}
PLAN_OPTIONS: Final = ["--host", "127.0.0.1", "--no-access-log", "--log-level", "warning"]

PEERS: Final = (
    Peer(
        name="plan",
        venv="plan",
        path="/predict",
        body=lambda question: {"id": PLACE_OF_ID, **question.row},
        number=number_at("Calories"),
        sum_of_trees=False,
        prepare=train_again,
        command=lambda site, port: [
            *(site.python, "-m", "uvicorn", "--app-dir", SERVERS, "--factory", "plan_app:create_app"),
            *("--port", str(port), *PLAN_OPTIONS),
        ],
        environ=lambda site, _: {
            "PYTHONPATH": str(site.handout),
            "CALORIES_MODEL": str(site.models / "artefact.joblib"),
        },
        remark="FastAPI, a DataFrame for each request, the handout's own predict; 1 process; features included",
    ),
    Peer(
        name="mlflow",
        venv="mlflow",
        path="/invocations",
        body=lambda question: {"inputs": [question.features]},
        number=number_at("predictions", 0),
        sum_of_trees=True,
        prepare=save_with_mlflow,
        command=lambda site, port: [
            *(site.python, "-m", "mlflow", "models", "serve", "-m", site.models / "saved", "--env-manager", "local"),
            *("--workers", "1", "-h", "127.0.0.1", "-p", str(port)),
        ],
        environ=lambda *_: MLFLOW_QUIET,
        remark="`mlflow models serve`, 1 worker, arrays (`inputs`); without feature engineering",
    ),
    bentoml(
        "bentoml",
        "OneByOne",
        lambda question: {"features": question.features},
        (),
        "asynchronous, one record at a time",
    ),
    bentoml(
        "bentoml, batching",
        "InBatches",
        lambda question: {"features": [question.features]},
        (0,),
        f"asynchronous, adaptive batching up to {BATCH}",
    ),
    mlserver("mlserver", {}, "one record at a time"),
    mlserver(
        "mlserver, batching",
        {"max_batch_size": BATCH, "max_batch_time": 0.001},
        f"adaptive batching up to {BATCH} in 1 ms",
    ),
)

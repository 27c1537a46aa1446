"""One training as one MLflow run, and its bundle as one version of the registered model. Needs the train extra."""

import importlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from calsvc.http.errors import RegistryError
from calsvc.model.bundle import Bundle, sha256
from calsvc.settings import Settings
from calsvc.training.batch import mae, rmsle
from calsvc.training.curve import Curves
from calsvc.training.export import Source
from calsvc.training.plots import predicted_against_true, residuals
from calsvc.training.split import existing_split
from calsvc.training.store import (
    CHALLENGER,
    Store,
    experiment,
    is_missing,
    model_name,
    open_store,
    speaking_to,
    upload,
    user_name,
)

BUNDLE: Final = "bundle"
"""The folder of a run's artifacts that a version points at."""
_MOST_PARAMS: Final = 200
_LONGEST_PARAM: Final = 500
_DEEPEST_PARAM: Final = 6


class Trained(NamedTuple):
    """What a training came to. `truth` and `kcal` are of held-out rows, shape (n,); `seconds` goes by stage."""

    source: Source
    bundle: Bundle
    truth: NDArray[np.float64]
    kcal: NDArray[np.float64]
    curves: Curves
    seconds: dict[str, float]


class Registered(NamedTuple):
    """A version of a registered model, and the run that made it."""

    name: str
    version: str
    run_id: str


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """An open run."""

    store: Store
    model: str
    run: Any
    """MLflow's"""

    @property
    def run_id(self) -> str:
        """MLflow's id of it."""
        return str(self.run.info.run_id)

    def record(self, trained: Trained) -> Registered:
        """Log the training, register its bundle as the challenger, and end the run.

        Raises:
            RegistryError: the store refuses; the run counts as failed then.
        """
        try:
            files = files_of(trained)
            with speaking_to(self.store.uri):
                self._log(trained)
                self._upload(files)
                version = self._register(trained)
                self.store.client.set_terminated(self.run_id, "FINISHED")
        except BaseException as error:
            self.fail(error)
            raise
        return Registered(self.model, version, self.run_id)

    def fail(self, error: BaseException) -> None:
        """End the run as failed, where the store still answers. Raises nothing: `error` is what matters now."""
        with suppress(RegistryError), speaking_to(self.store.uri):
            self.store.client.set_tag(self.run_id, "failed_because", f"{error or type(error).__name__}")
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self.store.client.set_terminated(self.run_id, status)

    def _log(self, trained: Trained) -> None:
        entities = importlib.import_module("mlflow.entities")
        now = int(time.time() * 1000)
        points = [(name, value, 0) for name, value in metrics_of(trained).items()]
        points += [(name, value, step) for name, curve in trained.curves.items() for step, value in curve]
        params = read_params(trained.source.handout / "config.yaml")
        for some in _batches([entities.Param(*each) for each in params.items()], 100):
            self.store.client.log_batch(self.run_id, params=some)
        for some in _batches([entities.RunTag(*each) for each in tags_of(trained).items()], 100):
            self.store.client.log_batch(self.run_id, tags=some)
        for some in _batches(
            [entities.Metric(usable_name(name), value, now, step) for name, value, step in points], 1000
        ):
            self.store.client.log_batch(self.run_id, metrics=some)

    def _upload(self, files: Mapping[str, bytes]) -> None:
        with TemporaryDirectory(prefix="calsvc-run-") as scratch:
            for name, content in files.items():
                (Path(scratch) / name).parent.mkdir(exist_ok=True)
                (Path(scratch) / name).write_bytes(content)
            upload(self.store, self.run, Path(scratch))

    def _register(self, trained: Trained) -> str:
        manifest = trained.bundle.manifest
        tags = {
            "model_version": manifest.model_version,
            "holdout_rmsle": f"{rmsle(trained.truth, trained.kcal):.6f}",
            "handout_sha256": manifest.handout_sha256,
            "engine": manifest.engine,
        }
        client = self.store.client
        client.update_run(self.run_id, name=manifest.model_version)
        try:
            client.get_registered_model(self.model)
        except Exception as error:
            if not is_missing(error):
                raise
            client.create_registered_model(self.model)
        version = client.create_model_version(
            self.model, f"{self.run.info.artifact_uri}/{BUNDLE}", self.run_id, tags=tags
        )
        client.set_registered_model_alias(self.model, CHALLENGER, str(version.version))
        return str(version.version)


def open_run(settings: Settings) -> TrainingRun:
    """Open a run at `settings.tracking_uri`, in the experiment that is named like the registered model.

    Raises:
        RegistryError: the store does not answer, or refuses.
    """
    store, name = open_store(settings.tracking_uri.get_secret_value()), model_name(settings)
    tags = {"mlflow.source.name": "just train", "mlflow.user": user_name()}
    with speaking_to(store.uri):
        run = store.client.create_run(experiment(store, name), tags=tags)
    return TrainingRun(store, name, run)


def files_of(trained: Trained) -> dict[str, bytes]:
    """Return the run's files by their names there: what train.py wrote, the bundle, two pictures."""
    files = {f"{BUNDLE}/{file.name}": file.read_bytes() for file in sorted(trained.bundle.folder.iterdir())}
    files[f"artefact/{trained.source.trained.file.name}"] = trained.source.trained.file.read_bytes()
    files["plots/predicted_against_true.png"] = predicted_against_true(trained.truth, trained.kcal)
    files["plots/residuals.png"] = residuals(trained.truth, trained.kcal)
    return files


def metrics_of(trained: Trained) -> dict[str, float]:
    """Return the numbers of train.py's metrics JSON and ours: errors on held-out rows, parity, seconds."""
    difference = trained.bundle.manifest.parity.max_relative_difference
    return trained.bundle.manifest.training_metrics | {
        "holdout_rmsle": rmsle(trained.truth, trained.kcal),
        "holdout_mae_kcal": mae(trained.truth, trained.kcal),
        "holdout_rows": float(len(trained.truth)),
        **({} if difference is None else {"parity_max_relative_difference": difference}),
        **{f"{stage}_seconds": seconds for stage, seconds in trained.seconds.items()},
    }


def tags_of(trained: Trained) -> dict[str, str]:
    """Return what the run says of its origin: data, handout, code, libraries, and what came of it."""
    manifest, data = trained.bundle.manifest, trained.source.data
    tags = {
        "data_sha256": sha256(data.read_bytes()),
        "handout_sha256": manifest.handout_sha256,
        "engine": manifest.engine,
        "trees": str(manifest.trees),
        "model_version": manifest.model_version,
        **{f"library.{name}": version for name, version in manifest.libraries.items()},
    }
    if manifest.git_sha:
        tags |= {"git_sha": manifest.git_sha, "mlflow.source.git.commit": manifest.git_sha}
    if split := existing_split(data.parent):
        tags |= {"split_seed": str(split.seed), "split_fraction": repr(split.fraction)}
    return tags


def read_params(config: Path) -> dict[str, str]:
    """Return the handout's config.yaml as flat parameters, `model.max_depth` for example, short and not too many.

    A file that is not YAML has none: the handout has trained, so it is its own business.
    """
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    flat = {usable_name(name): text[:_LONGEST_PARAM] for name, text in _flattened(content, "", 0)}
    return dict(list(flat.items())[:_MOST_PARAMS])


def usable_name(text: str) -> str:
    """Return a name as MLflow accepts it for parameters and metrics."""
    return re.sub(r"[^\w.\- /]", "_", text).strip("/. ")[:200] or "_"


def _flattened(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and depth < _DEEPEST_PARAM:
        for key, each in value.items():
            yield from _flattened(each, f"{name}.{key}" if name else str(key), depth + 1)
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value, default=str)


T = TypeVar("T")


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most `size`: MLflow refuses more in one call."""
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some

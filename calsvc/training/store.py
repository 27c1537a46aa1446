"""Where runs and model versions are kept: an MLflow server, or the embedded store (`calsvc/registry/embedded.py`).

Importing MLflow takes two seconds: it happens when a store is opened. Needs the train extra.
"""

import fcntl
import getpass
import importlib
import os
import re
import shlex
import shutil
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from calsvc.http.errors import CalsvcError, RegistryError
from calsvc.registry.address import RegisteredModel, without_password
from calsvc.registry.client import Version
from calsvc.registry.embedded import QUIET, database_of, local_folder
from calsvc.registry.mlflow_child import first_cause, reason_of
from calsvc.registry.mlflow_child import version_of as as_version
from calsvc.registry.mlflow_import import import_mlflow
from calsvc.settings import Settings
from observability.addresses import without_user

_RETRIES: Final = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_PATIENCE: Final = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    _RETRIES: "2",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # as the service has it
}
"""Seconds and repetitions; MLflow's own are 120 and 7, a quarter of an hour until a dead server is an error."""
CHALLENGER: Final = "challenger"
"""The alias of the version that was registered last."""
_KIND: Final = {"mlflow.experimentKind": "custom_model_development"}
"""Else MLflow's page guesses, and offers tools for language models instead of charts."""


class Store(NamedTuple):
    """An opened store. `client` is an MlflowClient; `folder` is that of the embedded database, None for a server."""

    client: Any
    uri: str
    folder: Path | None


def model_name(settings: Settings) -> str:
    """Return the name of the registered model, which is also that of the experiment."""
    return settings.model.name if isinstance(settings.model, RegisteredModel) else "calories"


def open_store(uri: str) -> Store:
    """Connect to a server, or open the embedded database, which is made where there is none.

    Raises:
        RegistryError: naming MLFLOW_TRACKING_URI, what happened and what to do; after some 15 s at most.
    """
    database = database_of(uri)
    folder = database.parent if database else None
    # Read while MLflow is imported. What the user has set himself about patience stands.
    os.environ.update(QUIET | {name: os.environ.get(name) or value for name, value in _PATIENCE.items()})
    uri, credentials = without_password(uri)
    os.environ.update(credentials)
    with speaking_to(uri):
        mlflow = import_mlflow()
        if folder is None:
            store = Store(mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), uri, None)
            _demand_answer(store)
            return store
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):  # two processes that create the same tables fail both
            return Store(mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), uri, folder)


def experiment(store: Store, name: str) -> str:
    """Return the id of an experiment, which is made where there is none."""
    with speaking_to(store.uri):
        if found := store.client.get_experiment_by_name(name):
            if found.lifecycle_stage == "deleted":
                raise RegistryError(_deleted(store, name, found.experiment_id))
            return str(found.experiment_id)
        # A server knows where its artifacts go; the embedded store would put them into the working directory.
        location = None if store.folder is None else f"mlflow-artifacts:/{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
        return str(store.client.create_experiment(name, artifact_location=location, tags=_KIND))


def _deleted(store: Store, name: str, number: str) -> str:
    uri = without_user(store.uri)
    command = f"uv run --all-extras mlflow experiments restore --experiment-id {number}"
    variable = shlex.quote(f"MLFLOW_TRACKING_URI={uri}")
    return f"the experiment {name} was deleted at {uri}; bring it back with {variable} {command}"


def upload(store: Store, run: Any, folder: Path) -> None:
    """Add the files of a folder to those of an MLflow run."""
    if kept := local_folder(store.uri, run.info.artifact_uri):
        _copy(folder, kept)
    else:
        store.client.log_artifacts(run.info.run_id, str(folder))


def download(store: Store, location: str, into: Path) -> Path:
    """Write the files at a location of MLflow's to a folder, or to one below it; return which."""
    if kept := local_folder(store.uri, location):
        if kept.is_dir():
            _copy(kept, into)
        return into
    artifacts = importlib.import_module("mlflow.artifacts")
    return Path(artifacts.download_artifacts(location, dst_path=str(into), tracking_uri=store.uri))


def _copy(folder: Path, into: Path) -> None:
    try:
        shutil.copytree(folder, into, dirs_exist_ok=True)
    except shutil.Error as error:  # one reason for each file, each a text
        source, target, reason = error.args[0][0]
        raise RegistryError(f"{source} cannot be copied to {target}: {reason.partition(': ')[0]}") from None


def aliases(store: Store, name: str) -> dict[str, str]:
    """Return the version of a registered model that each of its aliases points at; empty where there is no model."""
    with speaking_to(store.uri):
        try:
            model = store.client.get_registered_model(name)
        except Exception as error:
            if is_missing(error):
                return {}
            raise
        return {alias: str(version) for alias, version in model.aliases.items()}


def version_of(store: Store, name: str, number: str) -> Version:
    """Return one version of a registered model.

    Raises:
        RegistryError: there is no such version, or the store does not answer.
    """
    with speaking_to(store.uri):
        try:
            found = store.client.get_model_version(name, number)
        except Exception as error:
            if is_missing(error):
                raise RegistryError(f"there is no version {number} of {name} at {without_user(store.uri)}") from None
            raise
    return as_version(found)


@contextmanager
def speaking_to(uri: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a RegistryError of one line, without the password that a URI may hold.

    What MLflow's own code is warned of, nobody here can act on.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CalsvcError, ModuleNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - and no cause: its text may have the password
        # MLflow raises what its parsers, its drivers and the disk raise.
        raise RegistryError(f"MLFLOW_TRACKING_URI={without_user(uri)}: {reason_of(error)}") from None


def is_missing(error: Exception) -> bool:
    """Tell whether MLflow says that what was asked for does not exist."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def user_name() -> str:
    """Return who is logged in, `unknown` where the system has no name for that user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _demand_answer(store: Store) -> None:
    """Ask a server for something small, once, by the client that asks it for everything else."""
    retries, os.environ[_RETRIES] = os.environ[_RETRIES], "0"
    try:
        store.client.search_experiments(max_results=1)
    except Exception as error:  # noqa: BLE001 - and no cause: its text may have the password
        cause = first_cause(error)
        reason = reason_of(cause)
        is_silent = isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError)
        what = f"does not answer ({reason}): start it with just mlflow" if is_silent else f"is of no use: {reason}"
        raise RegistryError(f"MLFLOW_TRACKING_URI={without_user(store.uri)} {what}") from None
    finally:
        os.environ[_RETRIES] = retries


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process dies, however it dies."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

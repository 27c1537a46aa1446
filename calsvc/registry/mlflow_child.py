"""The process that asks MLflow's own client: `python -m calsvc.registry.mlflow_child` with MLFLOW_TRACKING_URI set.

Requests and replies are JSON lines over stdin and stdout. First comes an empty reply, or one that says what is missing;
then one reply for each request. It ends with its stdin, also in the middle of a request, so it does not outlive its
parent. `mlflow_process.py` is the other side.
"""

import importlib
import logging
import os
import queue
import resource
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from calsvc.model.line_process import private_stdout
from calsvc.registry.client import MAX_BYTES, Version
from calsvc.registry.embedded import database_of, local_folder
from calsvc.registry.mlflow_import import import_mlflow
from observability.addresses import without_user

MAX_MEMORY: Final = 256 * 2**20
"""Bytes of data, beyond what MLflow takes once it is imported: it reads answers to their end, however long they are."""
_LONGEST_REASON: Final = 300
_ABSENT: Final = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Codes of an error: the first where there is no such model, the second where the model has no such alias."""


class Request(Struct, omit_defaults=True):
    """The version under an alias is asked for, or, with `into`, its files: they are written to that folder."""

    name: str
    alias: str = ""
    version: str = ""
    into: str = ""


class Reply(Struct, omit_defaults=True):
    """The version, where there is one; or what went wrong."""

    version: Version | None = None
    timeout: bool = False
    error: str = ""


def main() -> int:
    """Answer until stdin ends, which ends the process; return 1 where MLflow cannot be imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent drains first
    os.nice(10)  # the service goes first
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES + 1, MAX_BYTES + 1))
    requests = _received()
    database = database_of(os.environ["MLFLOW_TRACKING_URI"])
    with private_stdout() as replies:

        def write(reply: Reply) -> None:
            replies.write(msgspec.json.encode(reply) + b"\n")
            replies.flush()

        # What MLflow's own code is warned of, nobody here can act on; and it may hold addresses with passwords.
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            mlflow = import_mlflow()
            if database:
                importlib.import_module("sqlalchemy")  # which mlflow-skinny lacks
            client = mlflow.MlflowClient()
            if database:  # opened here, because that takes seconds
                client.search_registered_models(max_results=1)
        except ModuleNotFoundError as error:
            extra = "train" if database else "registry"
            write(Reply(error=f"{error.name} is not installed here: uv sync --extra {extra}"))
            return 1
        except Exception as error:  # noqa: BLE001 - whatever MLflow or its database raises is an answer to the parent
            write(failure(error))
            return 1
        _limit_memory()
        write(Reply())
        while True:
            request = msgspec.json.decode(requests.get(), type=Request)
            try:
                write(Reply(_answer(mlflow, client, request)))
            except Exception as error:  # noqa: BLE001 - as above
                write(failure(error))


def version_of(found: Any) -> Version:
    """Return MLflow's ModelVersion in the terms of this program."""
    return Version(
        name=str(found.name),
        version=str(found.version),
        run_id=found.run_id or None,
        source=found.source,
        aliases=tuple(found.aliases),
        created=found.creation_timestamp / 1000,
        tags=dict(found.tags),
    )


def failure(error: Exception) -> Reply:
    """Return what went wrong, without passwords: the first cause, which is short where MLflow's own text is long."""
    causes = [*_causes(error)]
    return Reply(timeout=any(isinstance(each, TimeoutError) for each in causes), error=reason_of(causes[-1]))


def first_cause(error: BaseException) -> BaseException:
    """Return what an error began with."""
    return [*_causes(error)][-1]


def reason_of(error: BaseException) -> str:
    """Return an error's text on one line of bounded length, without passwords; its type where it has none."""
    return " ".join(without_user(str(error)).split())[:_LONGEST_REASON] or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield error
    while cause := error.__cause__ or error.__context__:
        yield (error := cause)


def _limit_memory() -> None:
    threading.stack_size(2**20)  # of MLflow's forty threads; what the system would give them counts as data
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * resource.getpagesize() + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _received() -> queue.SimpleQueue[bytes]:
    """Return the queue of what comes in. A thread reads it, and sees the parent's end while MLflow is waited for."""
    received = queue.SimpleQueue[bytes]()

    def read() -> None:
        for line in sys.stdin.buffer:
            received.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return received


def _answer(mlflow: Any, client: Any, request: Request) -> Version | None:
    if not request.into:
        return _resolve(client, request)
    location = client.get_model_version_download_uri(request.name, request.version)
    folder = local_folder(os.environ["MLFLOW_TRACKING_URI"], location)
    if folder is None:
        mlflow.artifacts.download_artifacts(f"models:/{request.name}/{request.version}", dst_path=request.into)
    elif folder.is_dir():
        shutil.copytree(folder, request.into, symlinks=True, dirs_exist_ok=True)
    return None


def _resolve(client: Any, request: Request) -> Version | None:
    try:
        found = client.get_model_version_by_alias(request.name, request.alias)
    except Exception as error:
        # A server that is not MLflow answers with 404 as well, but without a code of its own.
        if getattr(error, "error_code", None) in _ABSENT and not str(error).startswith("API request to "):
            return None
        raise
    if found.name != request.name:  # MLflow takes an empty answer for a version without a name
        raise ValueError("it does not answer as MLflow does")
    return version_of(found)


if __name__ == "__main__":
    sys.exit(main())

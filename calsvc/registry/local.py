"""The registry without a server: the SQLite database and the files that MLflow writes where it runs on its own.

Reading the database takes MLflow itself, which the service does not load: it asks a process that ends with its answer,
`python -m calsvc.registry.local TRACKING_URI MODEL`, and only when the database has changed. The files are there
already and are copied.
"""

import importlib
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import anyio
import msgspec
from msgspec import Struct

from calsvc.http.errors import RegistryError
from calsvc.registry.client import MAX_BYTES, MAX_FILES, TOO_MUCH, Deadlines, Version

CHILD: Final = (sys.executable, "-m", "calsvc.registry.local")

ARTIFACTS: Final = "artifacts"
"""Folder beside the database that `mlflow-artifacts:/` stands for, with a server and without."""

Signature = tuple[tuple[int, int] | None, ...]
"""Time of change (ns) and size (bytes) of the database and of what SQLite writes beside it."""


class Reply(Struct, omit_defaults=True):
    """What the process prints: the versions by alias, their sources resolved; or what is wrong."""

    versions: dict[str, Version] = {}
    error: str = ""


class LocalStore:
    """See `Registry`. `child`: the command that reads the database, to be completed by URI and model."""

    def __init__(
        self,
        uri: str,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - immutable
        child: Sequence[str] = CHILD,
    ) -> None:
        self._uri = uri
        self._database = Path(uri.removeprefix("sqlite:///").partition("?")[0])
        self._deadlines = deadlines
        self._child = child
        self._known: dict[str, tuple[Signature, dict[str, Version]]] = {}

    async def resolve(self, name: str, alias: str) -> Version | None:
        """See `Registry`."""
        # Taken before asking: a change while MLflow reads is seen the next time.
        signature = await anyio.to_thread.run_sync(_signature, self._database)
        if signature[0] is None:
            raise RegistryError(f"there is no registry at {self._uri}; just train makes one")
        known = self._known.get(name)
        if known is None or known[0] != signature:
            known = signature, await self._ask(name)
            self._known[name] = known
        return known[1].get(alias)

    async def download(self, version: Version, into: Path) -> None:
        """See `Registry`."""
        folder = _local_path(version.source, self._database.parent)
        if folder is None:
            raise RegistryError(
                f"{version} is at {version.source}, not on this machine: set MLFLOW_TRACKING_URI to an MLflow server"
            )
        try:
            with anyio.fail_after(self._deadlines.download):
                for file in await anyio.to_thread.run_sync(_files, version, folder):
                    await anyio.to_thread.run_sync(_copy, folder / file, into / file)
        except TimeoutError:
            raise RegistryError(f"{version} could not be copied from {folder} in time") from None

    async def aclose(self) -> None:
        """Nothing stays open."""

    async def _ask(self, name: str) -> dict[str, Version]:
        try:
            with anyio.fail_after(self._deadlines.child):
                done = await anyio.run_process([*self._child, self._uri, name], stdin=DEVNULL, check=False)
        except TimeoutError:
            raise RegistryError(f"MLflow did not read {self._uri} in time") from None
        except OSError as error:
            raise RegistryError(f"the process that reads {self._uri} cannot start: {error}") from None
        try:
            # The last line: libraries may print before.
            reply = msgspec.json.decode(done.stdout.strip().rpartition(b"\n")[2], type=Reply)
        except msgspec.DecodeError:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise RegistryError(f"MLflow cannot read {self._uri}: {last or f'exit code {done.returncode}'}") from None
        if reply.error:
            raise RegistryError(f"MLflow cannot read {self._uri}: {reply.error}")
        return reply.versions


def _signature(database: Path) -> Signature:
    return tuple(_time_and_size(database.with_name(database.name + suffix)) for suffix in ("", "-wal"))


def _time_and_size(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _local_path(source: str, home: Path) -> Path | None:
    """Return the folder that a source names, None where it is not on this machine. `home` is the database's folder."""
    try:
        parts = urlsplit(source)
    except ValueError:
        return None
    if parts.scheme == "mlflow-artifacts" and not parts.netloc:
        return home / ARTIFACTS / parts.path.lstrip("/")
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(source) if source and not parts.scheme else None


def _files(version: Version, folder: Path) -> list[Path]:
    """Return what is to be copied, as paths below the folder."""
    files, size = [], 0
    for count, path in enumerate(folder.rglob("*"), 1):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            files.append(path.relative_to(folder))
            size += status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            raise RegistryError(f"{version} holds {path}, which is no file")
        if count > MAX_FILES or size > MAX_BYTES:
            raise RegistryError(f"{version} has {TOO_MUCH}: {folder}")
    if not files:
        raise RegistryError(f"{version} has no files at {folder}: were they deleted?")
    return files


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


# --- the process ------------------------------------------------------------------------------------------------------


def main() -> int:
    """Print a `Reply` on the model named on the command line; 1 where it says what is wrong."""
    uri, name = sys.argv[1:]
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        reply = Reply(_versions(uri, name))
    except ImportError:
        reply = Reply(error="MLflow is not installed here: uv sync --extra train, or name a server's address")
    except Exception as error:  # noqa: BLE001 - whatever MLflow or its database raises is an answer to the parent
        reply = Reply(error=str(error).partition("\n")[0] or type(error).__name__)
    sys.stdout.write(msgspec.json.encode(reply).decode() + "\n")
    return 1 if reply.error else 0


def _versions(uri: str, name: str) -> dict[str, Version]:
    # By name: of the train extra, slow to load, and its types would cost the type checker a minute.
    client = importlib.import_module("mlflow").MlflowClient(uri)
    try:
        aliases = client.get_registered_model(name).aliases
    except Exception as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: _version(client, name, str(number)) for alias, number in aliases.items()}


def _version(client: Any, name: str, number: str) -> Version:
    found = client.get_model_version(name, number)
    source = client.get_model_version_download_uri(name, number)
    if source.startswith("runs:/"):
        run_id, _, path = source.removeprefix("runs:/").partition("/")
        source = f"{client.get_run(run_id).info.artifact_uri}/{path}"
    return Version(
        name=name,
        version=number,
        run_id=found.run_id or None,
        source=source,
        aliases=tuple(found.aliases),
        created=found.creation_timestamp / 1000,
        tags=dict(found.tags),
    )


if __name__ == "__main__":
    sys.exit(main())

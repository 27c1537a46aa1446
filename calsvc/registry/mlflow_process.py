"""The registry through MLflow's own client, in a process that may hang or die: `mlflow_child.py`.

Importing MLflow takes more than a second and some 80 MiB, so the process stays and is asked again. It is killed when a
call has not ended in time or brings too much, and started anew by the next call.
"""

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import msgspec

from calsvc.http.errors import RegistryError
from calsvc.model.line_process import LineProcess, ProcessLost
from calsvc.registry.address import check_tracking, without_password
from calsvc.registry.client import MAX_BYTES, MAX_FILES, TOO_MUCH, Deadlines, Version
from calsvc.registry.embedded import QUIET, database_of
from calsvc.registry.mlflow_child import Reply, Request
from observability.addresses import scheme_of, without_user

CHILD: Final = (sys.executable, "-m", "calsvc.registry.mlflow_child")
_WATCH: Final = 0.1
"""Seconds between two looks at what has been downloaded."""
_NOT_FOR_THE_CHILD: Final = ("CALSVC_", "OTEL_", "PYROSCOPE_")
"""How variables begin that are the service's own: secrets of other servers, and telemetry that it makes alone."""


class MlflowProcess:
    """See `Registry`. `child`: the command that answers as `mlflow_child.py` does."""

    def __init__(
        self,
        uri: str,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - immutable
        child: Sequence[str] = CHILD,
    ) -> None:
        """Nothing is started or asked yet.

        Raises:
            RegistryError: no registry can have this tracking URI.
        """
        try:
            check_tracking(uri)
        except ValueError:
            raise RegistryError(
                f"{scheme_of(uri)} is no address of a model registry: expected http://..., https://... or sqlite:///PATH"
            ) from None
        self._uri = uri
        self._shown = f"the registry {without_user(uri)}"  # messages end up in logs, a password must not
        self._deadlines = deadlines
        self._child = child
        self._turn = anyio.Lock()
        self._process: LineProcess | None = None

    @property
    def pid(self) -> int | None:
        """Id of the process, None while there is none."""
        return None if self._process is None else self._process.pid

    async def resolve(self, name: str, alias: str) -> Version | None:
        """See `Registry`."""
        database = database_of(self._uri)
        if database is not None and not await anyio.Path(database).exists():  # MLflow would make an empty one
            raise RegistryError(f"there is no registry at {self._uri}; just train makes one")
        return (await self._ask(Request(name, alias), self._deadlines.resolve)).version

    async def download(self, version: Version, into: Path) -> None:
        """See `Registry`."""
        failed: RegistryError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_at_the_bounds, into, tasks.cancel_scope)
            try:
                await self._ask(Request(version.name, "", version.version, str(into)), self._deadlines.download)
            except RegistryError as error:
                failed = error
            tasks.cancel_scope.cancel()
        found = await anyio.to_thread.run_sync(_found, into)
        if found.exceeds_bounds:
            raise RegistryError(f"{self._shown} has {TOO_MUCH}: {version}")
        if failed:
            raise failed
        if found.odd:
            raise RegistryError(f"{self._shown} has {found.odd} in {version}, which is no file")
        if found.files == 0:
            raise RegistryError(f"{self._shown} has no files of {version}: were they deleted?")

    async def aclose(self) -> None:
        """See `Registry`. Waits for nothing: there is nothing to lose."""
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    async def _ask(self, request: Request, seconds: float) -> Reply:
        async with self._turn:
            try:
                process = self._process or await self._start()
                with anyio.fail_after(seconds):
                    await process.send(msgspec.json.encode(request))
                    reply = await _reply(process)
            except TimeoutError:
                await self.aclose()
                raise RegistryError(f"{self._shown} does not answer in time") from None
            except ProcessLost as error:
                await self.aclose()
                raise RegistryError(f"{self._shown}: the process that asks it is lost: {error}") from None
            except BaseException:  # cancelled: the answer must not be taken for that of the next call
                await self.aclose()
                raise
        if reply.timeout:
            raise RegistryError(f"{self._shown} does not answer in time")
        if reply.error:
            raise self._unreadable(reply)
        return reply

    async def _start(self) -> LineProcess:
        self._process = process = await LineProcess.start(self._child, _environ(self._uri, self._deadlines))
        with anyio.fail_after(self._deadlines.start):
            reply = await _reply(process)
        if reply.error:
            raise self._unreadable(reply)
        return process

    def _unreadable(self, reply: Reply) -> RegistryError:
        return RegistryError(f"{self._shown} cannot be read: {reply.error}")


async def _reply(process: LineProcess) -> Reply:
    try:
        return msgspec.json.decode(await process.receive(), type=Reply)
    except msgspec.DecodeError as error:
        raise ProcessLost(f"its answer is not of the protocol: {error}") from None


def _environ(uri: str, deadlines: Deadlines) -> dict[str, str]:
    """Return the environment of the child: MLflow's client reads its own variables there, credentials too."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_FOR_THE_CHILD)}
    # MLflow's own are 120 s and 7 repetitions. Its answer that nobody answers spares killing it.
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": f"{max(1, int(deadlines.resolve) - 1)}"}
    patience |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_ALLOW_HTTP_REDIRECTS": "false"}
    address, credentials = without_password(uri)
    return patience | inherited | QUIET | credentials | {"MLFLOW_TRACKING_URI": address, "MLFLOW_REGISTRY_URI": address}


class _Found(NamedTuple):
    """What is in a folder. `odd`: the name of something that is neither a file nor a folder."""

    entries: int = 0
    files: int = 0
    size: int = 0
    odd: str = ""

    @property
    def exceeds_bounds(self) -> bool:
        return self.entries > MAX_FILES or self.size > MAX_BYTES


def _found(folder: Path) -> _Found:
    found = _Found()
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:  # MLflow has renamed it
            continue
        is_file = stat.S_ISREG(status.st_mode)
        odd = "" if is_file or stat.S_ISDIR(status.st_mode) else path.name
        found = _Found(
            found.entries + 1, found.files + is_file, found.size + status.st_size * is_file, odd or found.odd
        )
        if found.exceeds_bounds:
            break
    return found


async def _cancel_at_the_bounds(folder: Path, download: anyio.CancelScope) -> None:
    """Look at a folder while it is filled, and cancel that where it gets too much."""
    while True:
        await anyio.sleep(_WATCH)
        if (await anyio.to_thread.run_sync(_found, folder)).exceeds_bounds:
            download.cancel()
            return

"""The registry of an MLflow server, over its REST API, with nothing of MLflow installed here."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import anyio
import httpx2
import msgspec

from calsvc.http.errors import RegistryError
from calsvc.registry.client import MAX_BYTES, MAX_FILES, TOO_MUCH, Credentials, Deadlines, Version
from calsvc.registry.mlflow_wire import (
    API,
    Answer,
    ByAlias,
    DownloadUri,
    Listing,
    Place,
    Request,
    of_run,
    place_below,
    place_by_uri,
)
from observability.addresses import scheme_of, without_user

_LONGEST_ANSWER: Final = 2**20
"""Bytes of a JSON answer."""

T = TypeVar("T")


class MlflowRest:
    """See `Registry`. Follows no redirect, and takes neither proxies nor passwords from the environment."""

    def __init__(
        self,
        uri: str,
        credentials: Credentials = Credentials(),  # noqa: B008 - immutable
        deadlines: Deadlines = Deadlines(),  # noqa: B008
    ) -> None:
        self._shown = without_user(uri)  # messages end up in logs, a password must not
        self._host = self._shown.partition("//")[2].partition("/")[0]
        self._deadlines = deadlines
        try:
            self._client = httpx2.AsyncClient(
                base_url=uri.rstrip("/") + "/",
                headers={"Accept-Encoding": "identity", **_bearer(credentials)},
                auth=_user(credentials),
                timeout=httpx2.Timeout(deadlines.download, connect=deadlines.connect),
                trust_env=False,
            )
        except httpx2.InvalidURL:
            raise RegistryError(f"{scheme_of(uri)} is no address of a model registry") from None

    async def resolve(self, name: str, alias: str) -> Version | None:
        """See `Registry`."""
        with self._explained(), anyio.fail_after(self._deadlines.resolve):
            answer = await self._ask(Request(f"{API}/registered-models/alias", {"name": name, "alias": alias}))
        return None if answer.says_absent else self._decoded(answer, ByAlias).known()

    async def download(self, version: Version, into: Path) -> None:
        """See `Registry`."""
        with self._explained(), anyio.fail_after(self._deadlines.download):
            place = await self._place(version)
            left = MAX_BYTES
            for file in await self._files(version, place):
                left = await self._fetch(place.get(file), into / file, left)

    async def aclose(self) -> None:
        """See `Registry`."""
        await self._client.aclose()

    async def _place(self, version: Version) -> Place:
        query = {"name": version.name, "version": version.version}
        answer = await self._ask(Request(f"{API}/model-versions/get-download-uri", query))
        uri = self._decoded(answer, DownloadUri).artifact_uri
        place = place_by_uri(version, uri, self._host)
        if place is None and version.run_id:
            answer = await self._ask(of_run(version.run_id).list(""))
            place = place_below(version.run_id, self._decoded(answer, Listing).root_uri, uri)
        if place is None:
            raise RegistryError(f"the registry {self._shown} keeps {version} at {uri}, out of reach through it")
        return place

    async def _files(self, version: Version, place: Place) -> list[str]:
        """Return the path of each file below the place."""
        files: list[str] = []
        folders, seen, size = [""], 0, 0
        while folders:
            folder = folders.pop()
            listing = self._decoded(await self._ask(place.list(folder)), Listing)
            for each in listing.files:
                if (name := each.name_in(place.folder(folder))) is None:
                    raise RegistryError(f"{version} in the registry {self._shown} lists a file {each.path!r}")
                (folders if each.is_dir else files).append(posixpath.join(folder, name))
                size += each.file_size or 0
            seen += len(listing.files)
            if seen > MAX_FILES or size > MAX_BYTES or listing.next_page_token:
                raise RegistryError(f"{version} in the registry {self._shown} has {TOO_MUCH}")
        if not files:
            raise RegistryError(f"{version} in the registry {self._shown} has no files: were they deleted?")
        return files

    async def _fetch(self, request: Request, target: Path, left: int) -> int:
        """Write one file of at most `left` bytes; return how many bytes are left for others."""
        await anyio.Path(target.parent).mkdir(parents=True, exist_ok=True)
        async with self._client.stream("GET", request.route, params=dict(request.params)) as response:
            if response.status_code != 200:
                raise self._unexpected(await self._read(response))
            async with await anyio.open_file(target, "xb") as file:
                async for chunk in response.aiter_bytes():
                    left -= len(chunk)
                    if left < 0:
                        raise RegistryError(f"the registry {self._shown} sends {TOO_MUCH}")
                    await file.write(chunk)
        return left

    async def _ask(self, request: Request) -> Answer:
        async with self._client.stream("GET", request.route, params=dict(request.params)) as response:
            return await self._read(response)

    async def _read(self, response: httpx2.Response) -> Answer:
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > _LONGEST_ANSWER:
                raise RegistryError(f"the registry {self._shown} does not stop answering")
        return Answer(response.status_code, bytes(content), response.headers.get("location"))

    def _decoded(self, answer: Answer, kind: type[T]) -> T:
        if answer.status != 200:
            raise self._unexpected(answer)
        try:
            return msgspec.json.decode(answer.content, type=kind, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RegistryError(f"the registry {self._shown} does not answer as MLflow does") from None

    def _unexpected(self, answer: Answer) -> RegistryError:
        reason = f", {message}" if (message := answer.refusal.message) else ""
        reason += f", a redirect to {answer.location}" if answer.location else ""
        return RegistryError(f"the registry {self._shown} answers with status {answer.status}{reason}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise RegistryError(f"the registry {self._shown} does not answer in time") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            reason = str(error) or type(error).__name__
            raise RegistryError(f"the registry {self._shown} is out of reach: {reason}") from None


def _bearer(credentials: Credentials) -> dict[str, str]:
    return {"Authorization": f"Bearer {credentials.token}"} if credentials.token else {}


def _user(credentials: Credentials) -> tuple[str, str] | None:
    """Return name and password. A token goes first, as with MLflow's own client."""
    if credentials.token or not credentials.username:
        return None
    return credentials.username, credentials.password or ""

"""What an MLflow server is asked and what it answers: requests and JSON as types, no connection.

The server hands out the files of a version under different routes, depending on where they are: a `Place`.
"""

import posixpath
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Struct

from calsvc.registry.client import Version

API: Final = "api/2.0/mlflow"
_PROXY: Final = "api/2.0/mlflow-artifacts/artifacts"
_ABSENT: Final = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""Codes of an error: the first where there is no such model, the second where the model has no such alias."""


class Request(NamedTuple):
    """A GET below the server's address."""

    route: str
    params: Mapping[str, str] = {}


class Answer(NamedTuple):
    """A response that was read to its end. `location`: where a redirect would lead."""

    status: int
    content: bytes
    location: str | None

    @property
    def refusal(self) -> "Refusal":
        """What MLflow says of an error; empty where it is not MLflow that answers."""
        try:
            return msgspec.json.decode(self.content, type=Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Refusal()

    @property
    def says_absent(self) -> bool:
        """True where MLflow itself says that there is no such model or alias."""
        return self.status in (400, 404) and self.refusal.error_code in _ABSENT


class Refusal(Struct):
    """The body of an error."""

    error_code: str = ""
    message: str = ""


class Tag(Struct):
    """A tag of a model version."""

    key: str
    value: str = ""


class ModelVersion(Struct):
    """A model version; its time in milliseconds."""

    name: str
    version: str
    creation_timestamp: int
    source: str = ""
    run_id: str = ""
    aliases: list[str] = []
    tags: list[Tag] = []


class ByAlias(Struct):
    """The answer of registered-models/alias."""

    model_version: ModelVersion

    def known(self) -> Version:
        """Return it in the terms of this program."""
        found = self.model_version
        return Version(
            name=found.name,
            version=found.version,
            run_id=found.run_id or None,
            source=found.source,
            aliases=tuple(found.aliases),
            created=found.creation_timestamp / 1000,
            tags={tag.key: tag.value for tag in found.tags},
        )


class DownloadUri(Struct):
    """The answer of model-versions/get-download-uri."""

    artifact_uri: str


class Listed(Struct):
    """A file or folder in a listing. `path`: its name, or the whole path below the root; `file_size` in bytes."""

    path: str
    is_dir: bool = False
    file_size: int | None = None

    def name_in(self, folder: str) -> str | None:
        """Return the name, or None where it is not the name of something directly in this folder of a place."""
        parent, name = posixpath.split(self.path)
        plain = name not in ("", ".", "..") and "\\" not in name and "\0" not in name
        return name if plain and parent in ("", folder) else None


class Listing(Struct):
    """The answer of the routes that list files."""

    root_uri: str = ""
    files: list[Listed] = []
    next_page_token: str = ""


class Place(NamedTuple):
    """Where the server has a version's files: the folder `root` and below.

    Both requests lack a path, `root` included: the value of their empty parameter, or the end of the route.
    """

    root: str
    listing: Request
    content: Request

    def folder(self, path: str) -> str:
        """Return a folder of the version ("" is all of it) as the server knows it."""
        return posixpath.join(self.root, path).rstrip("/")

    def list(self, folder: str) -> Request:
        """Return the request that lists a folder of the version."""
        return _completed(self.listing, self.folder(folder))

    def get(self, file: str) -> Request:
        """Return the request for the content of a file of the version."""
        return _completed(self.content, posixpath.join(self.root, file))


def of_run(run_id: str, path: str = "") -> Place:
    """Return the place of files among those of a run, wherever the server keeps these."""
    query = {"run_id": run_id, "path": ""}
    return Place(path, Request(f"{API}/artifacts/list", query), Request("get-artifact", query))


def place_by_uri(version: Version, uri: str, host: str) -> Place | None:
    """Return the place that a download URI names; None where it names none that the server at `host` hands out."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme == "mlflow-artifacts" and parts.netloc in ("", host):
        return Place(parts.path.strip("/"), Request(_PROXY, {"path": ""}), Request(f"{_PROXY}/"))
    if parts.scheme == "runs":
        run_id, _, path = parts.path.strip("/").partition("/")
        return of_run(run_id, path)
    if version.source.startswith("models:/m-"):
        files = f"mlflow/logged-models/{quote(version.source.removeprefix('models:/'), safe='')}/artifacts"
        listing = Request(f"api/2.0/{files}/directories", {"artifact_directory_path": ""})
        return Place("", listing, Request(f"ajax-api/2.0/{files}/files", {"artifact_file_path": ""}))
    return None


def place_below(run_id: str, root_uri: str, uri: str) -> Place | None:
    """Return the place of a URI among the files of a run, which are at `root_uri`; None where it is not one of them."""
    root, whole = root_uri.removeprefix("file://").rstrip("/"), uri.removeprefix("file://").rstrip("/")
    return of_run(run_id, whole.removeprefix(f"{root}/")) if root and whole.startswith(f"{root}/") else None


def _completed(request: Request, path: str) -> Request:
    if not request.params:
        return Request(request.route + quote(path))
    filled: dict[str, Any] = {key: value or path for key, value in request.params.items()}
    return Request(request.route, {key: value for key, value in filled.items() if value})

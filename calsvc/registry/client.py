"""What serving asks of a model registry: which version an alias points at, and the files of that version."""

from pathlib import Path
from typing import Final, NamedTuple, Protocol

MAX_FILES: Final = 64
"""Files and folders of one version. A bundle has five files."""
MAX_BYTES: Final = 256 * 2**20
"""Of all files of one version together."""
TOO_MUCH: Final = f"more than {MAX_FILES} files, or more than {MAX_BYTES // 2**20} MiB, and is no bundle"


class Version(NamedTuple):
    """A version of a registered model. `created`: epoch seconds. `source`: where MLflow keeps its files."""

    name: str
    version: str
    run_id: str | None
    source: str
    aliases: tuple[str, ...]
    created: float
    tags: dict[str, str]

    @property
    def identity(self) -> tuple[str, str, str | None, str, float]:
        """What two versions have in common only if their files are the same; aliases and tags come and go.

        The number alone says too little: a model that was deleted and made anew counts from 1 again.
        """
        return self.name, self.version, self.run_id, self.source, self.created

    def __str__(self) -> str:
        """Return `calories version 3`, as messages call it."""
        return f"{self.name} version {self.version}"


class Registry(Protocol):
    """What serving needs of a registry. Every call ends within the deadlines that it was opened with."""

    async def resolve(self, name: str, alias: str) -> Version | None:
        """Return the version that the alias points at; None where the registry has no such alias, or no such model.

        Raises:
            RegistryError: naming the registry and what happened.
        """

    async def download(self, version: Version, into: Path) -> None:
        """Write all files of a version to the folder `into`, which exists.

        Raises:
            RegistryError: as above, and where there are none, too many, too large ones, or no plain files.
        """

    async def aclose(self) -> None:
        """End what runs for it."""


class Deadlines(NamedTuple):
    """How long a call may take, in seconds."""

    resolve: float = 5.0
    download: float = 60.0
    start: float = 30.0
    """more for a call that has to start the process that imports MLflow"""

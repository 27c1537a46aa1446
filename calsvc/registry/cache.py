"""Local copies of registered bundles, so that a registry that is down costs nothing but news.

    data/registry/calories/3/files/        the bundle, as it was downloaded and proven unaltered
    data/registry/calories/3/version.json  which version it is: the number alone may come back with other content
    data/registry/calories/@champion.json  the last version that served under this alias
    data/registry/calories/.unfinished-*   being written, or left by a process that was killed

A version is complete or not there: it is written under a hidden name, flushed and renamed. Several processes may share
the folder; whoever writes holds a lock on its hidden folder, which the kernel releases when the process dies.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, NamedTuple, ParamSpec, TypeVar

import anyio
import msgspec

from calsvc.http.errors import BundleError, RegistryError
from calsvc.model.bundle import Bundle, load_bundle
from calsvc.registry.client import Registry, Version
from calsvc.registry.files import replace_file, sync_folder, write_durably

DEFAULT_FOLDER: Final = Path("data/registry")
KEPT: Final = 3
"""Versions of a model that stay, beside those in use."""
_LONGEST_NAME: Final = 200
_FILES: Final = "files"
_ORIGIN: Final = "version.json"
_UNFINISHED: Final = ".unfinished-"

P = ParamSpec("P")
T = TypeVar("T")


class BundleCache:
    """Copies of bundles under one folder, which is made when it is needed. All of its work on files is in threads."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self._folder = folder

    async def fetch(self, registry: Registry, version: Version) -> Bundle:
        """Return the bundle of a version, unaltered: the copy that is here, or else one that is downloaded.

        Raises:
            BundleError: what the registry has is no bundle, or an altered one.
            RegistryError: it cannot be downloaded, or not be kept here.
        """
        home = self._home(version)
        if copy := await self._try(_copy_of, home, version):
            return copy
        unfinished = await self._try(_begin, home)
        try:
            await self._download(registry, version, unfinished.files)
            return await self._try(_finish, unfinished, home / version.version, version)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(unfinished.remove)

    async def remember(self, alias: str, version: Version) -> None:
        """Note that this version has served under the alias.

        Raises:
            RegistryError: it cannot be written.
        """
        await self._try(replace_file, self._home(version) / f"@{_plain(alias)}.json", msgspec.json.encode(version))

    async def last_good(self, name: str, alias: str) -> tuple[Version, Bundle] | None:
        """Return what was remembered for an alias, where its copy is here and unaltered."""
        home = self._folder / _plain(name)
        return await self._try(_last_good, home, home / f"@{_plain(alias)}.json")

    async def prune(self, name: str, keep: Collection[Version]) -> None:
        """Remove copies of the model `name` but for the newest, those in `keep`, and the remembered ones.

        Raises:
            RegistryError: the disk refuses.
        """
        await self._try(_prune, self._folder / _plain(name), {version.version for version in keep})

    def _home(self, version: Version) -> Path:
        _plain(version.version)
        return self._folder / _plain(version.name)

    async def _download(self, registry: Registry, version: Version, into: Path) -> None:
        try:
            await registry.download(version, into)
        except OSError as error:
            raise self._refused(error) from None

    async def _try(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Do work on files in a thread."""
        try:
            return await anyio.to_thread.run_sync(lambda: work(*arguments, **named))
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> RegistryError:
        return RegistryError(f"models cannot be kept in {self._folder}: {error.strerror or error}")


class _Unfinished(NamedTuple):
    """A hidden folder of ours, locked while its descriptor is open."""

    folder: Path
    descriptor: int

    @property
    def files(self) -> Path:
        return self.folder / _FILES

    def remove(self) -> None:
        """Remove what was not renamed, and let go of the lock. Raises nothing: the next writer will try again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.descriptor)


def _plain(text: str) -> str:
    """Return a name that is safe as that of a file; MLflow's may have 255 characters, a file's has fewer bytes left."""
    if not text or text[0] in ".@" or any(character in text for character in "/\\\0"):
        raise RegistryError(f"{text!r} cannot be the name of a model, a version or an alias")
    return text if len(text.encode()) <= _LONGEST_NAME else blake2b(text.encode(), digest_size=32).hexdigest()


def _read(file: Path) -> Version | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Version)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _copy_of(home: Path, version: Version) -> Bundle | None:
    origin = _read(home / version.version / _ORIGIN)
    if origin is None or origin.identity != version.identity:
        return None
    with suppress(BundleError):
        return load_bundle(home / version.version / _FILES)
    return None


def _last_good(home: Path, note: Path) -> tuple[Version, Bundle] | None:
    version = _read(note)
    bundle = _copy_of(home, version) if version else None
    return (version, bundle) if version and bundle else None


def _begin(home: Path) -> _Unfinished:
    home.mkdir(parents=True, exist_ok=True)
    _sweep(home)
    folder = Path(mkdtemp(prefix=_UNFINISHED, dir=home))
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / _FILES).mkdir()
    return _Unfinished(folder, descriptor)


def _sweep(home: Path) -> None:
    """Remove what killed processes have left: hidden folders that nobody holds the lock of."""
    for leftover in home.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError, BlockingIOError), _locked(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _finish(unfinished: _Unfinished, target: Path, version: Version) -> Bundle:
    """Prove what was downloaded and put it in its place."""
    try:
        load_bundle(unfinished.files)
    except BundleError as error:
        reason = str(error).replace(f"{unfinished.files.resolve()}/", "")  # a name that nobody will find again
        raise BundleError(f"{version} in the registry is unusable: {reason}") from None
    if copy := _copy_of(target.parent, version):  # another process was faster
        return copy
    write_durably(unfinished.folder / _ORIGIN, msgspec.json.encode(version))
    _sync(unfinished.folder)
    _replace(unfinished.folder, target)
    return load_bundle(target / _FILES)


def _sync(folder: Path) -> None:
    """Wait until a folder and all below is on the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def _replace(folder: Path, target: Path) -> None:
    if target.exists():  # altered, or of another model under the same number
        doomed = Path(mkdtemp(prefix=_UNFINISHED, dir=target.parent))
        target.rename(doomed / target.name)
        folder.rename(target)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        folder.rename(target)
    sync_folder(target.parent)


def _prune(home: Path, keep: set[str]) -> None:
    remembered = {note.version for file in home.glob("@*.json") if (note := _read(file))}
    oldest_first = sorted((file.stat().st_mtime_ns, file.parent) for file in home.glob(f"[!.]*/{_ORIGIN}"))
    for _, copy in oldest_first[:-KEPT]:
        if copy.name not in keep | remembered:
            doomed = Path(mkdtemp(prefix=_UNFINISHED, dir=home))
            copy.rename(doomed / copy.name)  # so that a crash during the removal leaves no half version under its name
            shutil.rmtree(doomed)

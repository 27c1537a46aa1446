"""Local copies: complete and unaltered, or not there."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import msgspec
import pytest

from calsvc.http.errors import BundleError, RegistryError
from calsvc.model.bundle import MANIFEST, ONNX, Bundle
from calsvc.registry.cache import KEPT, BundleCache
from calsvc.registry.client import Version
from tests.making import Trained

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The loop that the service runs on, without its faster implementation."""
    return "asyncio"


class Shelf:
    """A registry of folders on this disk. `spoil` may do what it likes to a download that is complete."""

    def __init__(self) -> None:
        self.aliases: dict[str, Version] = {}
        self.down: str | None = None
        self.downloads: list[str] = []
        self.spoil: Callable[[Path], Awaitable[None]] | None = None

    async def resolve(self, name: str, alias: str) -> Version | None:
        """Return the version under an alias."""
        if self.down:
            raise RegistryError(self.down)
        found = self.aliases.get(alias)
        return found if found and found.name == name else None

    async def download(self, version: Version, into: Path) -> None:
        """Copy the folder that is the version's source."""
        if self.down:
            raise RegistryError(self.down)
        self.downloads.append(version.version)
        await anyio.to_thread.run_sync(lambda: shutil.copytree(version.source, into, dirs_exist_ok=True))
        if self.spoil:
            await self.spoil(into)

    async def aclose(self) -> None:
        """Nothing is open."""


def version_of(bundle: Bundle, number: int = 1, created: float = 1000.0) -> Version:
    """Return the version whose files are those of a bundle."""
    return Version("calories", str(number), "run", str(bundle.folder), ("champion",), created, {})


def spoiled(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Awaitable[None]]:
    """Return what changes one file of a download."""

    async def spoil(folder: Path) -> None:
        file = anyio.Path(folder) / name
        await file.write_bytes(change(await file.read_bytes()))

    return spoil


def names_in(folder: Path) -> set[str]:
    """Return what is in a folder, hidden things included."""
    return {each.name for each in folder.iterdir()}


async def test_a_version_is_downloaded_once(trained: Trained, tmp_path: Path) -> None:
    """Later it is the local copy, for another process too."""
    shelf, version = Shelf(), version_of(trained.bundle, 3)
    bundle = await BundleCache(tmp_path).fetch(shelf, version)
    assert bundle.folder == tmp_path / "calories" / "3" / "files"
    assert bundle.manifest == trained.bundle.manifest
    assert await BundleCache(tmp_path).fetch(shelf, version._replace(aliases=(), tags={"a": "b"})) == bundle
    assert shelf.downloads == ["3"]
    assert names_in(tmp_path / "calories") == {"3"}


async def test_a_copy_that_was_altered_is_replaced(trained: Trained, tmp_path: Path) -> None:
    """One byte is enough."""
    shelf, version = Shelf(), version_of(trained.bundle)
    copy = await BundleCache(tmp_path).fetch(shelf, version)
    content = copy.read(ONNX)
    (copy.folder / ONNX).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (await BundleCache(tmp_path).fetch(shelf, version)).read(ONNX) == content
    assert shelf.downloads == ["1", "1"]
    assert names_in(tmp_path / "calories") == {"1"}


@pytest.mark.parametrize("change", [{"run_id": "other"}, {"created": 2000.0}, {"source": "elsewhere"}])
async def test_another_version_under_the_same_number_is_not_mixed_up(
    trained: Trained, republish: Callable[[int], Bundle], tmp_path: Path, change: dict[str, object]
) -> None:
    """A model that was deleted and made anew counts from 1 again."""
    shelf, cache = Shelf(), BundleCache(tmp_path / "cache")
    await cache.fetch(shelf, version_of(trained.bundle))
    other = republish(7)
    new = version_of(other)._replace(**change)  # type: ignore[arg-type]
    if "source" not in change:
        assert (await cache.fetch(shelf, new)).manifest == other.manifest
    else:
        with pytest.raises(RegistryError):  # asked of the registry, which has nothing there
            await cache.fetch(shelf, new)


@pytest.mark.parametrize("name", [MANIFEST, ONNX])
@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda content: content[:9] + b"\0" + content[10:], lambda _: b""]
)
async def test_what_arrives_altered_is_refused(
    trained: Trained, tmp_path: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    """Truncated or changed, the file is named, and nothing of it stays."""
    shelf = Shelf()
    shelf.spoil = spoiled(name, change)
    with pytest.raises(BundleError, match=f"calories version 1 in the registry is unusable: {name}"):
        await BundleCache(tmp_path).fetch(shelf, version_of(trained.bundle))
    assert names_in(tmp_path / "calories") == set()


async def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    """Another model of the registry, say."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "MLmodel").write_text("flavors: {}")
    version = Version("calories", "1", None, str(tmp_path / "source"), (), 1.0, {})
    with pytest.raises(BundleError, match=r"calories version 1 in the registry is unusable: bundle\.json is missing"):
        await BundleCache(tmp_path / "cache").fetch(Shelf(), version)


async def test_a_registry_that_fails_in_the_middle_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    """Neither a version nor a hidden folder."""
    shelf = Shelf()

    async def fail(_: Path) -> None:
        raise RegistryError("gone")

    shelf.spoil = fail
    with pytest.raises(RegistryError, match="gone"):
        await BundleCache(tmp_path).fetch(shelf, version_of(trained.bundle))
    assert names_in(tmp_path / "calories") == set()


async def test_a_fetch_that_is_cancelled_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    """The service may be told to go while it downloads."""
    shelf, begun = Shelf(), anyio.Event()

    async def hang(_: Path) -> None:
        begun.set()
        await anyio.sleep_forever()

    shelf.spoil = hang
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(BundleCache(tmp_path).fetch, shelf, version_of(trained.bundle))
        await begun.wait()
        tasks.cancel_scope.cancel()
    assert names_in(tmp_path / "calories") == set()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", ".hidden", "@champion.json", "a\\b"])
async def test_names_from_outside_stay_inside(trained: Trained, tmp_path: Path, name: str) -> None:
    """A registry that answers with a path as the number of a version, or as a name, writes nothing."""
    for version in (version_of(trained.bundle)._replace(version=name), version_of(trained.bundle)._replace(name=name)):
        with pytest.raises(RegistryError, match="cannot be the name"):
            await BundleCache(tmp_path / "cache").fetch(Shelf(), version)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("letter", ["x", "ü"])
async def test_the_longest_names_of_mlflow_have_a_place(trained: Trained, tmp_path: Path, letter: str) -> None:
    """A model and an alias of 255 characters, which is more than a file's name can be."""
    cache, version = BundleCache(tmp_path / "cache"), version_of(trained.bundle)._replace(name=letter * 255)
    await cache.fetch(Shelf(), version)
    await cache.remember(letter * 255, version)
    found = await cache.last_good(letter * 255, letter * 255)
    assert found is not None
    assert found[0] == version
    assert await cache.last_good(letter * 255, letter * 254) is None


async def test_a_folder_that_cannot_be_written_is_one_error(trained: Trained, tmp_path: Path) -> None:
    """A file is in its place here; a missing permission reads the same."""
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RegistryError, match=r"models cannot be kept in .*cache: (Not a directory|File exists)"):
        await BundleCache(tmp_path / "cache").fetch(Shelf(), version_of(trained.bundle))
    with pytest.raises(RegistryError, match=r"models cannot be kept in .*cache: Not a directory"):
        await BundleCache(tmp_path / "cache").remember("champion", version_of(trained.bundle))


FETCH = """
import json, os, resource, signal, sys
from pathlib import Path
import anyio, msgspec
from calsvc.http.errors import CalsvcError
from calsvc.registry.cache import BundleCache
from calsvc.registry.client import Version
from tests.registry.test_cache import Shelf

folder, version, what = Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Version), sys.argv[3]
shelf = Shelf()

async def die(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

if what == "die":
    shelf.spoil = die
else:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(what), int(what)))
try:
    anyio.run(BundleCache(folder).fetch, shelf, version)
except CalsvcError as error:
    print(type(error).__name__, error)
"""
"""Fetches in a process of its own that is killed when all is downloaded, or that may write files of so many bytes."""


def fetch_in_a_process(folder: Path, version: Version, what: str) -> subprocess.CompletedProcess[str]:
    """Run the program above."""
    command = [sys.executable, "-c", FETCH, str(folder), msgspec.json.encode(version).decode(), what]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


@pytest.mark.slow
async def test_a_disk_that_is_full_is_one_error(trained: Trained, tmp_path: Path) -> None:
    """The kernel refuses to let any file grow beyond 10 kB; what was written is removed."""
    done = fetch_in_a_process(tmp_path, version_of(trained.bundle), "10000")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"RegistryError models cannot be kept in {tmp_path}: ")
    assert os.strerror(errno.EFBIG) in done.stdout
    assert names_in(tmp_path / "calories") == set()


@pytest.mark.slow
async def test_what_a_killed_process_has_left_is_removed(trained: Trained, tmp_path: Path) -> None:
    """By the next one that writes; what is being written by a living process stays."""
    version = version_of(trained.bundle)
    assert fetch_in_a_process(tmp_path, version, "die").returncode == -signal.SIGKILL
    (leftover,) = names_in(tmp_path / "calories")
    assert leftover.startswith(".unfinished-")
    shelf, others = Shelf(), set[str]()

    async def meanwhile(_: Path) -> None:
        others.update(names_in(tmp_path / "calories"))
        await BundleCache(tmp_path).fetch(Shelf(), version_of(trained.bundle, 2))

    shelf.spoil = meanwhile
    await BundleCache(tmp_path).fetch(shelf, version)
    assert leftover not in others
    assert names_in(tmp_path / "calories") == {"1", "2"}


async def test_two_processes_may_fetch_the_same_version(trained: Trained, tmp_path: Path) -> None:
    """The second finds that it is there already, and leaves it alone."""
    shelf, version = Shelf(), version_of(trained.bundle)

    async def faster(_: Path) -> None:
        await BundleCache(tmp_path).fetch(Shelf(), version)
        (tmp_path / "calories" / "1" / "mark").touch()

    shelf.spoil = faster
    assert (await BundleCache(tmp_path).fetch(shelf, version)).manifest == trained.bundle.manifest
    assert names_in(tmp_path / "calories") == {"1"}
    assert "mark" in names_in(tmp_path / "calories" / "1")


async def test_the_last_good_version_is_remembered(trained: Trained, tmp_path: Path) -> None:
    """Per alias, and only while its copy is unaltered."""
    cache, version = BundleCache(tmp_path), version_of(trained.bundle)
    assert await cache.last_good("calories", "champion") is None
    bundle = await cache.fetch(Shelf(), version)
    await cache.remember("champion", version)
    assert await BundleCache(tmp_path).last_good("calories", "champion") == (version, bundle)
    assert await cache.last_good("calories", "challenger") is None
    assert await cache.last_good("other", "champion") is None
    (bundle.folder / ONNX).write_bytes(b"altered")
    assert await cache.last_good("calories", "champion") is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", json.dumps(["a", "../1"]).encode()])
async def test_a_damaged_note_is_no_note(tmp_path: Path, content: bytes) -> None:
    """It is written anew with the next model."""
    (tmp_path / "calories").mkdir()
    (tmp_path / "calories" / "@champion.json").write_bytes(content)
    assert await BundleCache(tmp_path).last_good("calories", "champion") is None


async def test_old_versions_go_and_those_in_use_stay(trained: Trained, tmp_path: Path) -> None:
    """The newest, the ones that serve, and the remembered one."""
    cache, versions = BundleCache(tmp_path), [version_of(trained.bundle, number) for number in range(1, 9)]
    for version in versions:
        await cache.fetch(Shelf(), version)
    await cache.remember("champion", versions[1])
    await cache.prune("calories", [versions[0], versions[3]])
    kept = {"1", "2", "4", *(str(number) for number in range(9 - KEPT, 9))}
    assert names_in(tmp_path / "calories") == {"@champion.json", *kept}
    await cache.prune("calories", [])
    await BundleCache(tmp_path).prune("another", [])
    assert names_in(tmp_path / "calories") == {"@champion.json", *kept} - {"1", "4"}

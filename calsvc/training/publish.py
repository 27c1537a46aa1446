"""Put a new bundle in the place of the old one so that a crash at any point leaves the old one or the new one.

For the target `data/bundle`: each version is a folder under `data/bundles/`, and `data/bundle` is a symlink to the one
in use. A version is written under a hidden name, flushed to disk, and renamed when complete; then the symlink is
replaced by a rename. The last three versions stay, for looking back.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from calsvc.http.errors import BundleError
from calsvc.model.bundle import MANIFEST, Bundle, Manifest, encode_manifest, load_bundle, sha256, version_of
from calsvc.registry.files import READABLE_FILE, READABLE_FOLDER, make_readable, set_mode, sync_folder, write_durably

KEPT: Final = 3
_UNFINISHED: Final = ".unfinished-"


Prove = Callable[[Bundle], object]
"""Raises where the complete new version must not be used."""


def publish(draft: Manifest, files: Mapping[str, bytes], target: Path, prove: Prove | None = None) -> Bundle:
    """Write `files` (content by name) and their manifest as a new version and point `target` at it.

    The draft's `checksums` and `model_version` are filled in. Two publishers of one target take turns. Where `prove`
    raises, the new version is removed and the target stays as it was.

    Raises:
        BundleError: the target is something that was not published here, or the disk refuses.
    """
    manifest = replace(draft, model_version="", checksums={name: sha256(files[name]) for name in sorted(files)})
    manifest = replace(manifest, model_version=version_of(manifest))
    versions = versions_of(target)
    try:
        if target.exists() and not target.is_symlink():
            raise BundleError(f"{target} was not made by just train: move it away, or choose another --out")
        make_readable(versions)
        with _alone(versions):
            _remove_unfinished(versions)
            folder = versions / manifest.model_version
            _write(folder, {**files, MANIFEST: encode_manifest(manifest)})
            _prove(folder, prove)
            _point(target, folder)
            _prune(versions, manifest.model_version)
    except OSError as error:
        raise BundleError(f"cannot write the bundle to {error.filename or target}: {error.strerror}") from None
    return load_bundle(target)


def versions_of(target: Path) -> Path:
    """Return the folder of all versions of a target: `data/bundles` for `data/bundle`."""
    return target.with_name(f"{target.name}s")


@contextmanager
def _alone(versions: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process dies, however it dies."""
    with (versions / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_unfinished(versions: Path) -> None:
    # Under the lock, nobody else is writing: what is unfinished was left by a crash.
    for leftover in versions.glob(f"{_UNFINISHED}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    if folder.exists():
        return  # the name is the content's digest
    unfinished = folder.with_name(f"{_UNFINISHED}{folder.name}")
    unfinished.mkdir()
    for name, content in files.items():
        write_durably(unfinished / name, content, READABLE_FILE)
    set_mode(unfinished, READABLE_FOLDER)
    sync_folder(unfinished)
    unfinished.rename(folder)
    sync_folder(folder.parent)


def _prove(folder: Path, prove: Prove | None) -> None:
    try:
        bundle = load_bundle(folder)
        if prove is not None:
            prove(bundle)
    except BaseException:
        _remove(folder)
        raise


def _point(target: Path, folder: Path) -> None:
    link = folder.parent / f"{_UNFINISHED}link"
    # Relative, as seen from the target: the data folder can be moved as a whole.
    link.symlink_to(Path(folder.parent.name) / folder.name)
    link.replace(target)
    sync_folder(target.parent)


def _prune(versions: Path, current: str) -> None:
    complete = sorted(each for each in versions.iterdir() if each.is_dir() and not each.name.startswith("."))
    older = [each for each in complete if each.name != current]
    for folder in older[: max(0, len(older) - (KEPT - 1))]:
        _remove(folder)


def _remove(folder: Path) -> None:
    doomed = folder.with_name(f"{_UNFINISHED}{folder.name}")
    folder.rename(doomed)  # so that a crash during the removal leaves no half version under a version's name
    shutil.rmtree(doomed)

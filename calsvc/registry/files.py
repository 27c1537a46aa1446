"""Write files so that a crash leaves the old content or the new, and so that what was written stays written."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

READABLE_FILE: Final = 0o644
READABLE_FOLDER: Final = 0o755
"""Modes, whatever the umask is, of what containers mount: they read it as a user of their own."""


def set_mode(path: Path | int, mode: int) -> None:
    """Change the mode of a path or a descriptor, where this user and the file system allow it: FAT has no modes."""
    with suppress(PermissionError):
        os.chmod(path, mode)  # noqa: PTH101 - a Path is none for a descriptor


def make_readable(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for all to read; of one that is there nothing changes."""
    for each in (*reversed(folder.parents), folder):
        if not each.exists():
            each.mkdir(exist_ok=True)
            set_mode(each, READABLE_FOLDER)


def write_durably(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file and wait until it is on the disk; without `mode`, the umask decides who may read it."""
    with path.open("wb") as file:
        if mode is not None:
            set_mode(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file beside the old one and put it in its place; `mode` as for `write_durably`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished-{path.name}")
    write_durably(unfinished, content, mode)
    unfinished.replace(path)
    sync_folder(path.parent)


def replace_set(folder: Path, files: Mapping[str, bytes], mark: str) -> None:
    """Replace files that belong together, for all to read. `mark` is the one of them that says the set is complete.

    From the first replacement to the last it is empty, so a crash in between leaves a set that says it is none.
    """
    make_readable(folder)
    set_mode(folder, READABLE_FOLDER)
    if (folder / mark).exists():
        replace_file(folder / mark, b"")
    for name in sorted(files, key=lambda each: each == mark):
        replace_file(folder / name, files[name], READABLE_FILE)

"""The form of a handout: which files it has, and which bytes they are."""

import hashlib
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from calsvc.http.errors import HandoutError

TRAIN: Final = Path("data_sample/train.csv")
TEST: Final = Path("data_sample/test.csv")
_NEEDED: Final = ("train.py", "model.py", "config.yaml", str(TRAIN))
_FOREIGN: Final = (
    ".*", "__pycache__", "~$*", "*~", "#*#", "*.tmp", "*.part", "*.crdownload",
    "thumbs.db", "desktop.ini", "lost+found",
)  # fmt: skip
"""Patterns of names, in lower case, of what other programs leave in a folder."""


def check_handout(handout: Path) -> None:
    """Refuse a folder that is not of the form.

    Raises:
        HandoutError: naming what is missing and what to do.
    """
    try:
        if not handout.is_dir():
            raise HandoutError(
                f"there is no handout at {handout}: set CALSVC_HANDOUT_DIR to the data scientist's folder"
            )
        for name in _NEEDED:
            if not (handout / name).is_file():
                raise HandoutError(
                    f"{handout / name} is missing: a handout holds {', '.join(_NEEDED)}; "
                    "ask for the complete folder, or set CALSVC_HANDOUT_DIR to another one"
                )
    except PermissionError as error:
        raise HandoutError(f"{error.filename} cannot be read: {error.strerror}") from None


def fingerprint(handout: Path) -> str:
    """Return the SHA-256 over names and contents of the files that belong to the handout (see `snapshot`)."""
    digest = hashlib.sha256()
    for name, checksum in sorted(snapshot(handout).items()):
        digest.update(f"{name}\0{checksum}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def snapshot(handout: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that belongs to the handout, by its name relative to it.

    What other programs leave in any folder does not: dotfiles, `__pycache__`, lock, backup and temporary files of
    editors and office programs, files of file managers, unfinished downloads.

    Raises:
        HandoutError: a file cannot be read.
    """
    found = {}
    for folder, folders, files in os.walk(handout, onerror=_raise):
        folders[:] = [each for each in folders if not _is_foreign(each)]
        for name in files:
            path = Path(folder, name)
            if not _is_foreign(name) and path.is_file() and (checksum := _checksum(path)):
                found[path.relative_to(handout).as_posix()] = checksum
    return found


def _is_foreign(name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in _FOREIGN)


def _checksum(path: Path) -> str | None:
    """Return the SHA-256 of a file, None where it has gone meanwhile."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HandoutError(f"{path} cannot be read: {error.strerror}") from None


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise HandoutError(f"{error.filename} cannot be read: {error.strerror}") from None

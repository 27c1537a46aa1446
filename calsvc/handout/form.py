"""The form of a handout: which files it has, and which bytes they are."""

import hashlib
from pathlib import Path
from typing import Final

from calsvc.http.errors import HandoutError

TRAIN: Final = Path("data_sample/train.csv")
TEST: Final = Path("data_sample/test.csv")
_NEEDED: Final = ("train.py", "model.py", "config.yaml", str(TRAIN))


def check_handout(handout: Path) -> None:
    """Refuse a folder that is not of the form.

    Raises:
        HandoutError: naming what is missing and what to do.
    """
    if not handout.is_dir():
        raise HandoutError(f"there is no handout at {handout}: set CALSVC_HANDOUT_DIR to the data scientist's folder")
    for name in _NEEDED:
        if not (handout / name).is_file():
            raise HandoutError(
                f"{handout / name} is missing: a handout holds {', '.join(_NEEDED)}; "
                "ask for the complete folder, or set CALSVC_HANDOUT_DIR to another one"
            )


def fingerprint(handout: Path) -> str:
    """Return the SHA-256 over names and contents of all files, without caches (`__pycache__`) and dotfiles."""
    digest = hashlib.sha256()
    for name, checksum in sorted(snapshot(handout).items()):
        if not any(part == "__pycache__" or part.startswith(".") for part in Path(name).parts):
            digest.update(f"{name}\0{checksum}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def snapshot(handout: Path) -> dict[str, str]:
    """Return the SHA-256 of every file by its name relative to the handout, without what git keeps about the folder."""
    files = {each.relative_to(handout): each for each in handout.rglob("*") if each.is_file()}
    return {
        name.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for name, file in files.items()
        if ".git" not in name.parts
    }

"""Import MLflow where the path of the libraries has a `%`, as the workspaces of build servers do (`job%2Fmain`).

For an embedded database MLflow hands the path of its own migrations to Alembic's configuration, where `%` begins an
interpolation, and does not escape it. MLflow takes that path from where it was imported: from a link without `%`, then.
"""

import hashlib
import importlib
import os
import stat
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

from calsvc.http.errors import RegistryError

_PLACES: Final = ("/tmp", "/var/tmp")  # noqa: S108 - see `_linked`


def import_mlflow() -> Any:
    """Return the module `mlflow`: by name, as its types would cost the type checker a minute, and say Any in the end.

    Raises:
        ModuleNotFoundError: it is not installed.
        RegistryError: there is no folder for the link.
    """
    if "mlflow" not in sys.modules and (folder := link_to_mlflow()):
        sys.path.insert(0, folder)
    return importlib.import_module("mlflow")


def link_to_mlflow() -> str | None:
    """Return a folder from which MLflow has to be imported; None where it may be imported from where it is.

    The folder holds nothing but the link. It stays, for a server that this process becomes, and for the next process.

    Raises:
        RegistryError: there is no place for the folder.
    """
    found = find_spec("mlflow")
    if found is None or found.origin is None or "%" not in found.origin:
        return None
    package = Path(found.origin).parent
    name = f"calsvc-mlflow-{os.getuid()}-{hashlib.sha256(os.fsencode(package)).hexdigest()[:16]}"
    for place in (gettempdir(), *_PLACES):
        if "%" not in place and _linked(Path(place, name), package):
            return str(Path(place, name))
    raise RegistryError(f"MLflow cannot be used from {package}: its path has a %, and TMPDIR has no place for a link")


def _linked(folder: Path, package: Path) -> bool:
    """Make folder and link where they are missing; tell whether they can be trusted, since others write there, too."""
    link = folder / "mlflow"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            with suppress(FileExistsError):
                link.symlink_to(package)
            return link.readlink() == package
    return False

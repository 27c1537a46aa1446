"""Paths as the user means them: relative to the folder in which `just` was called, which runs commands elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CALLED_IN: Final = "JUST_INVOCATION_DIRECTORY"
"""The justfile says here where `just` was called; it runs every command in the checkout."""
SQLITE: Final = "sqlite:///"


def given_path(text: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return a path from the command line or a variable; `-` stands for the standard output."""
    folder = environ.get(CALLED_IN, "")
    # Where both folders are one, paths stay short in what is printed.
    return Path(text) if text == "-" or folder == os.getcwd() else Path(folder, text)  # noqa: PTH109 - as a text


def given_place(text: str, environ: Mapping[str, str]) -> str:
    """Return a path, or an address that may hold one, likewise; other addresses stay as they are."""
    scheme, path = (SQLITE, text.removeprefix(SQLITE)) if text.startswith(SQLITE) else ("", text)
    is_path = path and "://" not in path and not path.startswith("models:")
    return f"{scheme}{given_path(path, environ)}" if is_path else text

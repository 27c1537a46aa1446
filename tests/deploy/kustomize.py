"""The program that renders the manifests: kubectl, where it is there and new enough, else kustomize, built with Go.

Debian's kubectl is too old: it knows no components.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.go_programs import KUSTOMIZE

OLDEST = (5, 0)
"""Of the kustomize inside kubectl: that of kubectl 1.27."""


@cache
def command() -> Sequence[str] | None:
    """Return the words before the folder that is to be rendered; None where there is neither of the two."""
    if (kubectl := shutil.which("kubectl")) and _inside(kubectl) >= OLDEST:
        return (kubectl, "kustomize")
    return (built, "build") if (built := KUSTOMIZE.find()) else None


def _inside(kubectl: str) -> tuple[int, ...]:
    """Return the version of kustomize in a kubectl; (0,) where it does not tell."""
    asked = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, check=False)
    found = re.search(r"^Kustomize Version: v(\d+)\.(\d+)", asked.stdout, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else (0,)


def rendered(folder: Path) -> str:
    """Return what a folder comes to, as YAML.

    Raises:
        ValueError: with what kustomize says of it.
    """
    words = command()
    assert words is not None, "mark the test with needs('kustomize')"
    ended = subprocess.run([*words, folder], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise ValueError(f"{folder}: {ended.stderr}")
    return ended.stdout

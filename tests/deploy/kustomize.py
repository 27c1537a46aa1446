"""The program that renders the manifests: kubectl, where it is there and new enough, else kustomize, built with Go.

`python -m tests.deploy.kustomize` builds it where it is needed, which takes a minute the first time, and prints the
command. Debian's kubectl is too old: it knows no components.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.live.made_with_go import BuildFailed, cached, in_cache, run
from tests.needed import lacking

MODULE = "sigs.k8s.io/kustomize/kustomize/v5"
VERSION = "5.7.1"
OLDEST = (5, 0)
"""Of the kustomize inside kubectl: that of kubectl 1.27."""


def path() -> Path:
    """Where the program is, or would be."""
    return in_cache(f"kustomize-{VERSION}/kustomize")


@cache
def command() -> Sequence[str]:
    """Return the words before the folder that is to be rendered.

    Raises:
        BuildFailed: kubectl is missing or too old, and there is no Go, or no way to the modules.
    """
    if (kubectl := shutil.which("kubectl")) and _inside(kubectl) >= OLDEST:
        return (kubectl, "kustomize")
    return (str(cached(path(), "kustomize", _build)), "build")


def _inside(kubectl: str) -> tuple[int, ...]:
    """Return the version of kustomize in a kubectl; (0,) where it does not tell."""
    asked = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, check=False)
    found = re.search(r"^Kustomize Version: v(\d+)\.(\d+)", asked.stdout, re.MULTILINE)
    return tuple(map(int, found.groups())) if found else (0,)


def _build(folder: Path) -> Path:
    run(["go", "install", f"{MODULE}@v{VERSION}"], folder, {"GOBIN": str(folder)})
    return folder / "kustomize"


def rendered(folder: Path) -> str:
    """Return what a folder comes to, as YAML.

    Raises:
        ValueError: with what kustomize says of it.
    """
    try:
        words = command()
    except BuildFailed as failed:
        lacking(str(failed))
    ended = subprocess.run([*words, folder], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise ValueError(f"{folder}: {ended.stderr}")
    return ended.stdout


if __name__ == "__main__":
    print(shlex.join(command()))

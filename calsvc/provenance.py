"""Where this code comes from and what it runs on."""

import subprocess
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def git_sha() -> str | None:
    """Return the commit of the checkout this package lies in, or None where it was installed otherwise."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "rev-parse", "--verify", "HEAD:./"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=5)  # is the package itself versioned there?
        head = subprocess.run([*command[:3], "rev-parse", "HEAD"], check=True, capture_output=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.decode().strip()


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of the distributions `names`; one that is not installed is left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions

"""What is installed, and what is known against it: `python -m tests.audit`.

Are the libraries those of the lock, and unaltered? What is known is asked of `uv audit`, which asks a database on the
internet. Where that cannot be reached, it is said that nothing was asked, and the rest is checked all the same.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final

LOCK: Final = Path(__file__).parents[1] / "uv.lock"
OURSELVES: Final = "calsvc"
BETA: Final = re.compile(r"opentelemetry-[a-z-]+")
"""Whose packages have no other versions than betas, as they say of themselves for years."""
_PRE_RELEASE: Final = re.compile(r"\d(a|b|rc|\.dev)\d")
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ASKED: Final = 120.0
"""Seconds that the database may take."""


def lock_faults(lock: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with a lock: a source that is no index, a file without a hash, a version that is not final."""
    for package in lock["package"]:
        name, version = package["name"], package["version"]
        if name == OURSELVES:
            continue
        if set(package["source"]) != {"registry"}:
            yield f"{name} does not come from an index"
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        if not files or not all(_SHA256.fullmatch(file.get("hash", "")) for file in files):
            yield f"{name} has a file without a sha256"
        if _PRE_RELEASE.search(version) and not BETA.fullmatch(name):
            yield f"{name} {version} is a pre-release"


def installed_faults(lock: Mapping[str, Any], installed: Iterable[Distribution]) -> Iterator[str]:
    """Say which installed distributions are not those of a lock, and which of their files are not as they came."""
    locked = {(package["name"], package["version"]) for package in lock["package"]}
    for each in installed:
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
        if (name, each.version) not in locked:
            yield f"{name} {each.version} is installed and not in the lock"
        elif name != OURSELVES:
            yield from (f"{name}: {file} is not as it came" for file in altered(each))


def altered(distribution: Distribution) -> Iterator[str]:
    """Yield the files whose content is not that of the RECORD."""
    for file in distribution.files or []:
        if file.hash is None:
            continue  # RECORD itself
        path = Path(str(file.locate()))
        digest = hashlib.new(file.hash.mode, path.read_bytes() if path.exists() else b"").digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            yield str(file)


def advisories() -> tuple[bool, str]:
    """Ask what is known against the locked versions; return whether that is a reason to fail, and what to say."""
    try:
        asked = subprocess.run(
            [os.environ.get("UV", "uv"), "audit", "--frozen", "--preview-features", "audit-command"],
            cwd=LOCK.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=_ASKED,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"NOT ASKED whether anything is known against them: {type(error).__name__}"
    if asked.returncode in {0, 1}:
        return asked.returncode == 1, asked.stdout.strip() or asked.stderr.strip()
    return False, "NOT ASKED whether anything is known against them: the database cannot be reached from here"


def main() -> int:
    """Check all of it and say what came of it; 1 where something is wrong."""
    lock = tomllib.loads(LOCK.read_text(encoding="utf-8"))
    faults = [*lock_faults(lock), *installed_faults(lock, distributions())]
    for fault in faults:
        print(fault)
    if not faults:
        print(
            f"{len(lock['package'])} packages in the lock: pinned, hashed, from an index; what is installed is intact"
        )
    known, said = advisories()
    print(said)
    return 1 if faults or known else 0


if __name__ == "__main__":
    sys.exit(main())

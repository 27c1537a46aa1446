"""The lock: everything that is installed is pinned, hashed and from an index, and the audit sees where it is not."""

import copy
import tomllib
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from typing import Any

import pytest

from tests.audit import LOCK, altered, installed_faults, lock_faults

REAL = tomllib.loads(LOCK.read_text(encoding="utf-8"))


def test_the_lock_has_no_fault():
    """Every file has its sha256; nothing comes from a repository, an address or a folder but this project."""
    assert list(lock_faults(REAL)) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"source": {"git": "somewhere"}}, "anyio does not come from an index"),
        ({"source": {"url": "somewhere"}}, "anyio does not come from an index"),
        ({"wheels": [{"url": "x"}]}, "anyio has a file without a sha256"),
        ({"wheels": [{"url": "x", "hash": "md5:" + "0" * 32}]}, "anyio has a file without a sha256"),
        ({"wheels": [], "sdist": {"hash": ""}}, "anyio has a file without a sha256"),
        ({"version": "5.0rc1"}, "anyio 5.0rc1 is a pre-release"),
        ({"version": "5.0.dev3"}, "anyio 5.0.dev3 is a pre-release"),
    ],
)
def test_a_fault_of_the_lock_is_seen(change: dict[str, Any], fault: str):
    """One at a time."""
    lock = copy.deepcopy(REAL)
    next(package for package in lock["package"] if package["name"] == "anyio").update(change)
    assert list(lock_faults(lock)) == [fault]


def test_what_is_installed_is_compared(tmp_path: Path):
    """A version that is not locked, and a file that somebody has changed."""
    anyio = distribution("anyio")
    assert list(installed_faults(REAL, [anyio])) == []
    assert list(installed_faults({"package": []}, [anyio])) == [
        f"anyio {anyio.version} is installed and not in the lock"
    ]
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "toy.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\ntoy-1.0.dist-info/RECORD,,\n"
    )
    (tmp_path / "toy.py").write_text("")
    assert list(altered(PathDistribution(info))) == []
    (tmp_path / "toy.py").write_text("import os\n")
    assert list(altered(PathDistribution(info))) == ["toy.py"]

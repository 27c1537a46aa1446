"""Every dependency has a floor and a ceiling: no release that may break what it documents is installed unasked."""

import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def toml(name: str) -> dict[str, Any]:
    """A file of the project's folder."""
    return tomllib.loads((ROOT / name).read_text(encoding="utf-8"))


def declared() -> Iterator[str]:
    """Every requirement of pyproject.toml: of the package, its extras, its groups and its build."""
    pyproject = toml("pyproject.toml")
    yield from pyproject["project"]["dependencies"]
    yield from pyproject["build-system"]["requires"]
    for group in (*pyproject["project"]["optional-dependencies"].values(), *pyproject["dependency-groups"].values()):
        yield from (each for each in group if isinstance(each, str))  # else it includes another group


def locked() -> dict[str, list[Version]]:
    """The versions of each package in uv.lock: more than one where Python's version decides."""
    versions = defaultdict(list)
    for package in toml("uv.lock")["package"]:
        versions[package["name"]].append(Version(package.get("version", "0")))
    return versions


def next_breaking(version: Version) -> Version:
    """The next version that may break what this one documents: the next minor of a 0.x, else the next major."""
    if version.major:
        return Version(f"{version.epoch}!{version.major + 1}")
    return Version(f"{version.epoch}!0.{version.minor + 1}")


def complaints(requirement: str, versions: list[Version]) -> list[str]:
    """What is wrong with the bounds of a requirement that was locked at these versions."""
    bounds = list(Requirement(requirement).specifier)
    if any(bound.operator == "==" and not bound.version.endswith(".*") for bound in bounds):
        return []
    floors = [bound for bound in bounds if bound.operator in {">=", ">", "~=", "=="}]
    ceilings = [Version(bound.version) for bound in bounds if bound.operator == "<"]
    return [
        *(["no floor"] if not floors else []),
        *(["no ceiling"] if not ceilings else []),
        *(["too high a ceiling" for ceiling in ceilings if ceiling > next_breaking(max(versions))]),
    ]


@pytest.mark.parametrize("requirement", sorted(set(declared())))
def test_every_dependency_has_a_floor_and_a_ceiling(requirement: str):
    """The ceiling is at most the next version that may break what the locked one documents."""
    assert complaints(requirement, locked()[canonicalize_name(Requirement(requirement).name)]) == []


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        ("a", "1.2", ["no floor", "no ceiling"]),
        ("a>=1.2", "1.2", ["no ceiling"]),
        ("a<2", "1.2", ["no floor"]),
        ("a!=1.3", "1.2", ["no floor", "no ceiling"]),
        ("a>=1.2,<3", "1.2", ["too high a ceiling"]),
        ("a>=0.2,<1", "0.2", ["too high a ceiling"]),
        ("a>=0.2b1,<0.3", "0.2b1", []),
        ("a[b]>=1.2,<2; python_version > '3'", "1.4", []),
        ("a==1!1.2", "1!1.2", []),
    ],
)
def test_a_bound_that_is_missing_or_too_wide_is_found(requirement: str, version: str, expected: list[str]):
    """Of a stable version, of a 0.x, of a beta, of one that is pinned."""
    assert complaints(requirement, [Version(version)]) == expected

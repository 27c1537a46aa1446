"""Programs that tests run and that no Python package brings along."""

import os
import shutil
from typing import NoReturn

import pytest

PACKAGES = {"promtool": "prometheus"}
"""Debian's package of each program that is not called as it is."""


def needed(program: str, *otherwise: str) -> str:
    """Where a program is, or one that does as well; where none is, skip on a user's machine and fail in CI."""
    found = next(filter(None, map(shutil.which, (program, *otherwise))), None)
    if found is None:
        lacking(f"{program} is missing: apt-get install {PACKAGES.get(program, program)}")
    return found


def lacking(reason: str) -> NoReturn:
    """Skip a test that cannot run here; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)

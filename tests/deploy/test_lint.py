"""YAML and shell scripts, by their own linters."""

import subprocess
import sys

import pytest

from tests.needed import needed
from tests.service_process import ROOT

SCRIPTS = ("justw", ".ci/run")


def test_every_yaml_file_is_clean():
    """By yamllint, warnings count; .yamllint.yaml says what."""
    command = [sys.executable, "-m", "yamllint", "--strict", "--format=parsable", "."]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_shell_script_is_clean(script: str):
    """By shellcheck, down to style."""
    command = [needed("shellcheck"), "--severity=style", script]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout

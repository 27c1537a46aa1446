"""A machine on which docker, minikube and kubectl are stand-ins that write down what they are called with."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.deploy.cluster import KUSTOMIZE, copied

TOOLS = (
    "bash",
    "cat",
    "chmod",
    "cp",
    "dirname",
    "env",
    "getconf",
    "git",
    "grep",
    "mkdir",
    "od",
    "realpath",
    "rm",
    "sed",
    "tr",
)
"""Of the system, that the scripts may count on."""
PROGRAMS = ("docker", "minikube", "kubectl")
STAND_IN = """#!/usr/bin/env bash
set -eu
call="${0##*/} $*"
printf '%s\\n' "$call" >>"$CALLS"
if [[ $call == *"${FAILS:-nothing}"* ]]; then
    echo "stand-in: refused" >&2
    exit 7
fi
case "$call" in
docker\\ build*--iidfile*)
    target=${call#*--target }
    file=${call#*--iidfile }
    printf 'sha256:%s' "$(printf '%s' "${target%% *}" | od -An -v -tx1 | tr -d ' \\n')000000000000" >"${file%% *}"
    ;;
minikube\\ image\\ ls*) printf '%s\\n' ${LOADED:-} ;;
kubectl*get\\ deployment\\ metrics-server*) printf '%s\\n' '- --metric-resolution=60s' ;;
kubectl*replace*) cat >>"$CALLS" ;;
kubectl*get\\ deployments*) printf '%s\\n' deployment.apps/calsvc statefulset.apps/valkey ;;
esac
"""


class Machine(NamedTuple):
    """A copy of the checkout, and programs that write down what they are called with."""

    checkout: Path
    programs: Path
    calls: Path

    def run(self, script: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a script of deploy/kustomize with nothing else on its PATH."""
        return subprocess.run(
            [shutil.which("bash") or "bash", self.checkout / "deploy" / "kustomize" / script, *words],
            env={"PATH": str(self.programs), "CALLS": str(self.calls), "HOME": os.environ.get("HOME", "/"), **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def up(self, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `just k8s-up`."""
        return self.run("up.sh", "trainer", **environ)

    def called(self) -> list[str]:
        """Every call up to now."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    @property
    def own(self) -> Path:
        """What is kept of the cluster."""
        return self.checkout / "data" / "kubernetes"


def machine_in(folder: Path) -> Machine:
    """Lay out a machine with everything, and a checkout with a model."""
    checkout, programs = folder / "check out", folder / "bin"
    copied(checkout)
    for name in ("up.sh", "down.sh", "images.sh", "Dockerfile"):
        shutil.copy2(KUSTOMIZE / name, checkout / "deploy" / "kustomize" / name)
    version = checkout / "data" / "bundles" / "1"
    for file in (
        version / "bundle.json",
        checkout / "data/holdout/stream.csv",
        checkout / "handout_from DS_agent/train.py",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.name)
    (checkout / "data" / "bundle").symlink_to("bundles/1")
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(shutil.which(tool) or tool)
    for program in (*PROGRAMS, "trainer"):
        (programs / program).write_text(STAND_IN)
        (programs / program).chmod(0o755)
    return Machine(checkout, programs, folder / "calls")

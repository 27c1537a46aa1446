"""What a measurement was taken on: processor, interpreter, libraries, model. No host name, no path."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct

from calsvc.model.bundle import load_bundle
from calsvc.model.threads import available_cpus
from calsvc.settings import Settings
from observability.provenance import git_sha, library_versions

LIBRARIES: Final = (
    *("uvicorn", "starlette", "uvloop", "httptools", "msgspec", "onnxruntime", "xgboost-cpu", "numpy"),
    *("opentelemetry-sdk", "prometheus-client"),
)


class Machine(Struct):
    """The facts. `cpus`: those that the measurement may use."""

    taken_at: str
    processor: str
    cpus: int
    memory_gib: float | None
    system: str
    python: str
    libraries: dict[str, str]
    git_sha: str | None
    model_version: str


def machine() -> Machine:
    """Look at this machine and at the bundle that is served."""
    return Machine(
        taken_at=datetime.now(UTC).isoformat(timespec="minutes"),
        processor=_processor(),
        cpus=available_cpus(),
        memory_gib=_memory_gib(),
        system=f"{platform.system()} on {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries=library_versions(LIBRARIES),
        git_sha=git_sha(),
        model_version=load_bundle(Settings.from_env(os.environ).bundle_path).manifest.model_version,
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def described(facts: Machine) -> str:
    """Return the facts as a Markdown list."""
    memory = f", {facts.memory_gib:g} GiB" if facts.memory_gib else ""
    libraries = ", ".join(f"{name} {version}" for name, version in facts.libraries.items())
    commit = f", at or after commit {facts.git_sha[:12]}" if facts.git_sha else ""
    return "\n".join(
        [
            f"- {facts.processor}, {facts.cpus} CPUs{memory}; {facts.system}, {facts.python}",
            f"- {libraries}",
            f"- model {facts.model_version}; taken {facts.taken_at}{commit}",
        ]
    )

"""Where this code comes from and what it runs on."""

import socket
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Final

REVISION: Final = "REVISION"
"""File of this package in which an image's build notes the commit: in an image is neither a checkout nor git."""


@cache
def git_sha() -> str | None:
    """Return the commit that this package is of: as an image's build noted it, or else of the checkout it lies in.

    None where it was installed in another way.
    """
    folder = Path(__file__).resolve().parent
    if noted := revision_noted_in(folder):
        return noted
    command = ["git", "-C", str(folder), "rev-parse", "--verify", "HEAD:./"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=5)  # is the package itself versioned there?
        head = subprocess.run([*command[:3], "rev-parse", "HEAD"], check=True, capture_output=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.decode().strip()


def revision_noted_in(folder: Path) -> str | None:
    """Return the commit that is noted in a folder, None where there is none, or one that nobody knew."""
    try:
        noted = (folder / REVISION).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return noted if noted not in ("", "unknown") else None


@cache
def resource_of(service: str) -> Mapping[str, str]:
    """Return what this process is, as OpenTelemetry's resource attributes: an instance of `service`.

    The same for the whole life of the process, so that its spans and its log lines name the same instance. What
    OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector  # noqa: PLC0415 - the simulator has no room for it

    told = {
        "service.name": service,
        "service.version": version("calsvc"),
        "service.instance.id": f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
    }
    if sha := git_sha():
        told["vcs.ref.head.revision"] = sha
    given = OTELResourceDetector().detect().attributes
    return MappingProxyType(told | {name: str(value) for name, value in given.items()})


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of the distributions `names`; one that is not installed is left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions

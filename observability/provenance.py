"""Where this code comes from and what it runs on."""

import socket
import subprocess
import uuid
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType


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


@cache
def resource_of(service: str) -> Mapping[str, str]:
    """Return what this process is, as OpenTelemetry's resource attributes: an instance of `service`.

    The same for the whole life of the process, so that its spans and its log lines name the same instance.
    """
    told = {
        "service.name": service,
        "service.version": version("calsvc"),
        "service.instance.id": f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
    }
    sha = git_sha()
    return MappingProxyType(told | {"vcs.ref.head.revision": sha} if sha else told)


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of the distributions `names`; one that is not installed is left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions

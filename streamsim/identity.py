"""What this process is called, in its spans and in its log lines."""

import socket
import uuid
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from types import MappingProxyType
from typing import Final

SERVICE: Final = "streamsim"


@cache
def resource() -> Mapping[str, str]:
    """Return name, version and instance; the same for the whole life of the process."""
    instance = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    told = {"service.name": SERVICE, "service.version": version("calsvc"), "service.instance.id": instance}
    return MappingProxyType(told)

"""Open files: as many as the system lets this process have, and how many of them may be connections."""

import resource
from typing import Final

from calsvc.errors import SettingsError

MOST: Final = 65_536
"""Open files that are asked for at most: where there is no limit, nobody needs to keep a table for a billion."""
RESERVED: Final = 96
"""Open files that are not for connections: libraries, model, store, log, registry and collector take some forty."""
FEWEST: Final = 16
"""Connections below which it makes no sense to serve: Prometheus, a probe and a few clients."""


def raise_limit() -> int:
    """Raise the soft limit of open files as far as that is possible and sensible, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def room_for_connections(wanted: int, files: int) -> int:
    """Return how many of `files` may be connections, `wanted` at most.

    Raises:
        SettingsError: too few to serve.
    """
    room = files - RESERVED
    if room < FEWEST:
        least = f"room for {FEWEST}: {RESERVED + FEWEST} open files or more (ulimit -n), not {files}"
        raise SettingsError("CALSVC_MAX_CONNECTIONS", str(wanted), least)
    return min(wanted, room)

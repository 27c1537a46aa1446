"""Stacks of the running process, sampled all the time and sent to a Pyroscope server where one is named.

Optional, as the package is: what is missing costs one log line and nothing else. The client samples from a thread of
its own by reading memory, without the GIL, and shows Python frames: time inside ONNX Runtime is the time of the Python
function that called it. A process must not fork and go on after the start (starting another program is fine).
"""

import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

from observability.addresses import server_of
from observability.events import tell
from observability.signals import PROFILES_BACK, PROFILES_LOST, PROFILES_MISSING

SAMPLE_RATE: Final = 20
"""Stacks a second. Of a full core's throughput, 20 took about 1 %, 50 took 4 % and 100 took 5 %."""
UPLOAD_INTERVAL: Final = 15
"""Seconds. More than the client's own timeout of 10 s: uploads to a server that hangs do not pile up."""
SHUTDOWN_TIMEOUT: Final = 3.0
"""Seconds that the last upload gets."""
PROBE_TIMEOUT: Final = 2.0
"""Seconds."""
WATCH_INTERVAL: Final = 15.0
"""Seconds between two looks whether there is a server."""


class Profiles:
    """What `start_profiles` started, or nothing: every method may be called in either case."""

    def __init__(self, client: Any = None, watch: "_Watch | None" = None) -> None:
        self._client = client
        self._watch = watch
        self._tags = ExitStack()

    @property
    def running(self) -> bool:
        """True while stacks are sampled."""
        return self._client is not None

    def model(self, version: str) -> None:
        """Tag the calling thread's samples with this model version from now on, instead of the one before.

        A tag of one request would be wrong on most samples: tags belong to threads, and one thread answers all
        requests in turn (docs/profiles.md).
        """
        if self._client is not None:
            self._tags.close()
            self._tags.enter_context(self._client.tag_wrapper({"model_version": version}))

    def shutdown(self) -> None:
        """Send what was sampled and stop; blocks for `SHUTDOWN_TIMEOUT` at most, however the server behaves."""
        client, self._client = self._client, None
        if self._watch is not None:
            self._watch.end()
        if client is not None:
            leaving = threading.Thread(target=client.shutdown, name="profiles-shutdown", daemon=True)
            leaving.start()
            leaving.join(SHUTDOWN_TIMEOUT)


def start_profiles(address: str, application: str, tags: Mapping[str, str]) -> Profiles:
    """Begin to sample this process; an empty `address` means not to. Raises nothing and does not wait for the server.

    Args:
        address: http or https URL of a Pyroscope server.
        application: its name there, `service_name`.
        tags: on every sample. What changes is for `Profiles` to tag.
    """
    client = _client() if address else None
    if client is None:
        return Profiles()
    started = client.configure(
        application_name=application,
        server_address=address,
        tags=dict(tags),
        sample_rate=SAMPLE_RATE,
        upload_interval=UPLOAD_INTERVAL,
        oncpu=True,
        gil_only=False,  # scoring releases the GIL: its time would be missing
    )
    if not started:
        tell(PROFILES_MISSING, {"cause": "pyroscope-io cannot sample this process"})
        return Profiles()
    return Profiles(client, _Watch(address))


def _client() -> Any:
    try:
        import pyroscope  # noqa: PLC0415 - optional, and 8 MiB
    except ImportError as error:
        tell(PROFILES_MISSING, {"cause": f"pyroscope-io is missing ({error}): pip install 'calsvc[profiling]'"})
        return None
    return pyroscope


class _Watch:
    """Says once that nothing listens, and once that something does: the client drops its profiles without a word."""

    def __init__(self, address: str) -> None:
        self._told = server_of(address)
        self._server = self._told["server.address"], self._told["server.port"]
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="profiles-watch", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()

    def _watch(self) -> None:
        lost = False
        while not self._over.is_set():
            error = self._error()
            if error and not lost:
                tell(PROFILES_LOST, {**self._told, "cause": str(error)})
            elif lost and not error:
                tell(PROFILES_BACK, self._told)
            lost = error is not None
            self._over.wait(WATCH_INTERVAL)

    def _error(self) -> OSError | None:
        try:
            socket.create_connection(self._server, PROBE_TIMEOUT).close()
        except OSError as error:
            return error
        return None

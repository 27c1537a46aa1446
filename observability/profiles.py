"""Stacks of the running process, sampled all the time and sent to a Pyroscope server where one is named.

Optional, as the package is: what is missing costs one log line and nothing else. The client samples from a thread of
its own by reading memory, without the GIL, and shows Python frames: time inside ONNX Runtime is the time of the Python
function that called it. A process must not fork and go on after the start (starting another program is fine).
"""

import socket
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final
from urllib.parse import urlsplit

from observability.events import tell
from observability.signals import PROFILES_LOST, PROFILES_MISSING

SAMPLE_RATE: Final = 20
"""Stacks a second. Of a full core's throughput, 20 took about 1 %, 50 took 4 % and 100 took 5 %."""
UPLOAD_INTERVAL: Final = 15
"""Seconds. More than the client's own timeout of 10 s: uploads to a server that hangs do not pile up."""
SHUTDOWN_TIMEOUT: Final = 3.0
"""Seconds that the last upload gets."""
PROBE_TIMEOUT: Final = 2.0
"""Seconds."""

ENDPOINT: Final = "endpoint"
MODEL_VERSION: Final = "model_version"
SPAN_ID: Final = "span_id"
"""Tag that Grafana looks for, 16 hexadecimal digits, when a span has the attribute `PROFILE_ID` of the same value."""
PROFILE_ID: Final = "pyroscope.profile.id"


class _Tag:
    """A tag on the samples of the thread that enters; may be entered again and again, not within itself."""

    __slots__ = ("_add", "_key", "_remove", "_value")

    def __init__(self, client: Any, key: str, value: str) -> None:
        self._add, self._remove = client.add_thread_tag, client.remove_thread_tag
        self._key, self._value = key, value

    def __enter__(self) -> None:
        self._add(self._key, self._value)

    def __exit__(self, *_: object) -> None:
        self._remove(self._key, self._value)


class Profiles:
    """What `start_profiles` started, or nothing: every method may be called in either case.

    Tags belong to threads. Between `__enter__` and `__exit__` of a tag on an event loop there must be no `await` that
    waits: other requests run meanwhile, and would be counted under it.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client
        self._version = ""

    @property
    def running(self) -> bool:
        """True while stacks are sampled."""
        return self._client is not None

    def tag(self, key: str, value: str) -> AbstractContextManager[None]:
        """Return a context whose samples carry a tag. Make it once and keep it, where the value does not change."""
        return nullcontext() if self._client is None else _Tag(self._client, key, value)

    def model(self, version: str) -> None:
        """Tag the calling thread's samples with this model version from now on, instead of the one before."""
        if self._client is None:
            return
        if self._version:
            self._client.remove_thread_tag(MODEL_VERSION, self._version)
        self._client.add_thread_tag(MODEL_VERSION, version)
        self._version = version

    def shutdown(self) -> None:
        """Send what was sampled and stop; blocks for `SHUTDOWN_TIMEOUT` at most, however the server behaves."""
        client, self._client = self._client, None
        if client is not None:
            leaving = threading.Thread(target=client.shutdown, name="profiles-shutdown", daemon=True)
            leaving.start()
            leaving.join(SHUTDOWN_TIMEOUT)


def start_profiles(address: str, application: str, tags: Mapping[str, str]) -> Profiles:
    """Begin to sample this process; an empty `address` means not to. Raises nothing and does not wait for the server.

    Args:
        address: http or https URL of a Pyroscope server.
        application: its name there, `service_name`.
        tags: on every sample. What changes belongs to `Profiles.tag` or `Profiles.model`.
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
    threading.Thread(target=_probe, args=(address,), name="profiles-probe", daemon=True).start()
    return Profiles(client)


def _client() -> Any:
    try:
        import pyroscope  # noqa: PLC0415 - optional, and 8 MiB
    except ImportError as error:
        tell(PROFILES_MISSING, {"cause": f"pyroscope-io is missing ({error}): pip install 'calsvc[profiling]'"})
        return None
    return pyroscope


def _probe(address: str) -> None:
    """Say it once where nothing listens: the client itself drops what it cannot send without a word."""
    url = urlsplit(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), PROBE_TIMEOUT).close()
    except OSError as error:
        tell(PROFILES_LOST, {"server.address": url.hostname, "server.port": port, "cause": str(error)})

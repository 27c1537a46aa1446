"""The one sampler: looks at the service once a second, and hands the same bytes to whoever watches."""

from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import msgspec

from calsvc import __version__
from calsvc.service import Service
from calsvc.web.reading import bounds_ms, read
from calsvc.web.snapshot import CHARTED, Snapshot, Window, summarize
from observability.events import tell
from observability.signals import PAGE_FAILED

INTERVAL: Final = 1.0
"""Seconds from one snapshot to the next."""
KEPT: Final = 600
"""Points of the charts: ten minutes."""


class Feed:
    """The newest snapshot and the last ten minutes, encoded once, however many watch.

    Nobody has a queue: who is slow misses snapshots and goes on with the newest.

    Args:
        about: what stays the same as long as the process lives; told with the history.
    """

    def __init__(self, about: dict[str, object]) -> None:
        self.update = b""
        """The newest snapshot, as an event."""
        self.closed = False
        self.turn = anyio.Event()
        """Set when there is a newer snapshot, or will be none; then there is another event to wait for."""
        self._about = msgspec.json.encode({**about, "columns": CHARTED})
        self._points: deque[bytes] = deque(maxlen=KEPT)
        self._newest: Snapshot | None = None
        self._history: bytes | None = None

    def publish(self, snapshot: Snapshot) -> None:
        """Encode a snapshot and wake all who watch. A clock that was set back begins a new history."""
        if self._newest is not None and snapshot.at <= self._newest.at:
            self._points.clear()
        self._points.append(msgspec.json.encode([getattr(snapshot, name) for name in CHARTED]))
        self._newest, self._history = snapshot, None
        self.update = _event(b"update", msgspec.json.encode(snapshot))
        self._wake()

    def close(self) -> None:
        """Let all who watch go."""
        self.closed = True
        self._wake()

    def history(self) -> bytes:
        """Return what a new page is told first, as an event; made once for all that open between two snapshots."""
        if self._history is None:
            now = msgspec.json.encode(self._newest)
            content = (b'{"about":', self._about, b',"now":', now, b',"points":[', b",".join(self._points), b"]}")
            self._history = _event(b"history", b"".join(content))
        return self._history

    def _wake(self) -> None:
        turn, self.turn = self.turn, anyio.Event()
        turn.set()


class Sampler:
    """Looks at a service and feeds what it finds. `wall`: seconds since the epoch, for the axis of the charts."""

    def __init__(self, service: Service, wall: Callable[[], float]) -> None:
        self._service = service
        self._wall = wall
        self._bounds_ms = bounds_ms()
        self._window = Window()
        self._failing = False
        settings = service.settings
        about = {
            "service_version": __version__,
            "label_delay_s": settings.feedback_delay,
            "window_s": settings.quality_window,
            "retention_s": settings.feedback_retention,
            "latency_floor_ms": self._bounds_ms[0],
            "latency_ceiling_ms": self._bounds_ms[-1],
        }
        self.feed = Feed(about)

    def sample(self) -> None:
        """Look once."""
        reading = read(self._service)
        self._window.add(reading)
        self.feed.publish(summarize(self._window, reading, self._wall(), self._bounds_ms))

    async def run(self) -> None:
        """Look every second until the process is told to go; then once more, to show that it goes, and let all go."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look)
            await self._service.lifecycle.wait_leaving()
            tasks.cancel_scope.cancel()
        self._try()
        self.feed.close()

    async def _look(self) -> None:
        due = anyio.current_time()
        while True:
            self._try()
            due = max(due + INTERVAL, anyio.current_time())
            await anyio.sleep_until(due)

    def _try(self) -> None:
        try:
            self.sample()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - nobody's prediction shall fail for that
            if not self._failing:  # once, and not each second
                tell(PAGE_FAILED, error=error)
            self._failing = True


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: " + name + b"\ndata: " + data + b"\n\n"

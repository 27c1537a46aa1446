"""Which store an address names. Nothing is opened here, and nothing loaded that is not used."""

import os
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from calsvc.feedback.ledger import Ledger
from calsvc.feedback.store import JoinStore, MemoryStore
from calsvc.settings import Settings

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def create_store(settings: Settings, clock: Callable[[], float]) -> JoinStore:
    """Return the store that the settings name. `clock`: monotonic seconds, the service's."""
    address = settings.store.get_secret_value()
    ledger = Ledger(settings.feedback_retention, settings.max_pending)
    if address == "memory://":
        return MemoryStore(ledger)
    from calsvc.feedback.journal import Moment  # noqa: PLC0415

    boot = boot_id()

    def now() -> Moment:
        return Moment(boot, clock(), time.time())

    if address.startswith("sqlite:///"):
        from calsvc.feedback.durable import DurableStore  # noqa: PLC0415
        from calsvc.feedback.keeper import Keeping  # noqa: PLC0415

        return DurableStore(
            ledger,
            Keeping(Path(address.removeprefix("sqlite:///")), settings.feedback_retention, settings.max_pending, now),
        )
    from calsvc.feedback.held import Held  # noqa: PLC0415
    from calsvc.feedback.link import Link  # noqa: PLC0415
    from calsvc.feedback.spool import Place, Spool  # noqa: PLC0415
    from calsvc.feedback.valkey import Bounds, SharedStore  # noqa: PLC0415

    instance = os.urandom(6).hex()
    link = Link(address, instance.encode(), settings.feedback_retention)
    held = Held(settings.store_backlog, Spool(Place(settings.store_held, link.name, now), instance))
    bounds = Bounds(settings.max_pending, settings.store_backlog)
    return SharedStore(link, instance.encode(), clock, bounds=bounds, held=held)


@cache
def boot_id() -> str:
    """Return what names this boot of the machine; where nothing does, every process has a name of its own."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex

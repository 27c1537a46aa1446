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
FACTS_PER_PREDICTION: Final = 4
"""Kept for each prediction that may wait: made, shadowed, settled, and one that was replaced."""


def create_store(settings: Settings, clock: Callable[[], float]) -> JoinStore:
    """Return the store that the settings name. `clock`: monotonic seconds, the service's."""
    address = settings.store.get_secret_value()
    ledger = Ledger(settings.feedback_retention, settings.max_pending)
    if address == "memory://":
        return MemoryStore(ledger)
    from calsvc.feedback.journal import Journal, Keep, Moment  # noqa: PLC0415

    boot = boot_id()

    def now() -> Moment:
        return Moment(boot, clock(), time.time())

    if address.startswith("sqlite:///"):
        from calsvc.feedback.durable import DurableStore  # noqa: PLC0415

        keep = Keep(settings.feedback_retention, FACTS_PER_PREDICTION * settings.max_pending, now)
        journal = Journal(Path(address.removeprefix("sqlite:///")), keep)
        return DurableStore(ledger, journal, settings.feedback_retention)
    from calsvc.feedback.held import Held, HeldFiles, Place  # noqa: PLC0415
    from calsvc.feedback.link import Link  # noqa: PLC0415
    from calsvc.feedback.valkey import Bounds, SharedStore  # noqa: PLC0415

    instance = os.urandom(6).hex()
    link = Link(address, instance.encode(), settings.feedback_retention)
    keep = Keep(settings.feedback_retention, settings.store_backlog, now)
    held = Held(settings.store_backlog, HeldFiles(Place(settings.store_held, link.name, keep), instance))
    bounds = Bounds(settings.max_pending, settings.store_backlog)
    return SharedStore(link, instance.encode(), clock, bounds=bounds, held=held)


@cache
def boot_id() -> str:
    """Return what names this boot of the machine; where nothing does, every process has a name of its own."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex

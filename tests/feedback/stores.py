"""Every kind of store, opened and running, for tests that hold for all of them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from calsvc.feedback.opening import create_store
from calsvc.feedback.quality import Series
from calsvc.feedback.records import Remembered, Shadow, SpanRef
from calsvc.feedback.store import JoinStore, Late
from calsvc.settings import Settings

RETENTION = 3600.0
CHAMPION, CHALLENGER = Series("v1", "champion"), Series("v2", "challenger")
SHADOW = Shadow(70.0, CHALLENGER)
SPAN = SpanRef(2**127 + 1, 2**63 + 1)


def prediction(made_at: float, kcal: float = 80.0, span: SpanRef | None = None) -> Remembered:
    """A prediction of the only champion there is."""
    return Remembered(kcal, made_at, CHAMPION, span)


def ignore(_: Late) -> None:
    """Charge nothing."""


@asynccontextmanager
async def running(store: JoinStore, now: float, late: Callable[[Late], None] = ignore) -> AsyncIterator[JoinStore]:
    """Open a store, keep it going, and close it in order."""
    await store.open(now)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.run, late)
            yield store
            tasks.cancel_scope.cancel()
    finally:
        await store.aclose()


@asynccontextmanager
async def opened(
    text: str, clock: Callable[[], float] = time.monotonic, late: Callable[[Late], None] = ignore, **settings: Any
) -> AsyncIterator[JoinStore]:
    """Open the store at an address, with the service's settings or others."""
    with TemporaryDirectory() as held:
        described = Settings(store=text, **{"feedback_retention": RETENTION, "store_held": Path(held), **settings})
        async with running(create_store(described, clock), clock(), late) as store:
            yield store


def file_of(folder: Path) -> str:
    """The address of a store in a folder with a space."""
    return f"sqlite:///{folder / 'a store' / 'waiting.db'}"

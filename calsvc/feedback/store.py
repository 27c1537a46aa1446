"""The seam between the service and whatever remembers its predictions, and the simplest thing behind it.

Time is an argument, in seconds of this process's clock, which never runs back.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import anyio

from calsvc.feedback.ledger import Ledger
from calsvc.feedback.records import Joined, RecordId, Remembered, Shadow, StoreStatistics


class LateJoin(NamedTuple):
    """A truth that came at `came_at` and was refused, because nobody could say what became of it: it was joined."""

    prediction: Remembered
    true_kcal: float
    came_at: float


class LateReplacement(NamedTuple):
    """A prediction made at `made_at` was replaced, which was not known when the later one was remembered."""

    made_at: float


Late = LateJoin | LateReplacement
"""What a store learned after the call that it belongs to had returned, or had failed."""


class JoinStore(Protocol):
    """Remembers predictions, and joins each with its truth exactly once."""

    @property
    def degraded(self) -> bool:
        """Whether it keeps less than its promise at the moment; it goes on all the same."""

    async def open(self, now: float) -> Iterable[Remembered]:
        """Return what waits from before.

        Raises:
            StoreError: naming the store, why it cannot be used, and what to do.
        """

    async def run(self, late: Callable[[Late], None]) -> None:
        """Do what has to be done beside the calls, until cancelled. `late` is called with what no call returned."""

    async def aclose(self) -> None:
        """Keep all that is still to be kept, and release what is held. May be called again."""

    async def remember(self, record_id: RecordId, prediction: Remembered) -> float | None:
        """Let a prediction wait for its truth; an earlier one of the same id that still waits is replaced.

        Returns:
            When the replaced one was made, in seconds of this process's clock; None where none was.
        """

    async def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """Put a shadow beside the prediction made at `made_at`; False where that one does not wait any more."""

    async def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """Join a truth with its prediction.

        Raises:
            UnknownId: no prediction of this id waits or has been joined within the retention time.
            TruthConflict: another truth stands already, and stays.
            StoreUnavailable: nobody can say at the moment; the truth should be sent again.
        """

    def statistics(self) -> StoreStatistics:
        """Return the sizes and losses."""

    def sweep(self, now: float, limit: int) -> None:
        """Forget up to `limit` entries that are past their retention."""


class MemoryStore:
    """A `JoinStore` in this process's memory, for one replica, which forgets all when it ends.

    Args:
        ledger: where everything is kept.
    """

    degraded = False

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.statistics = ledger.statistics
        self.sweep = ledger.sweep

    async def open(self, now: float) -> Iterable[Remembered]:  # noqa: ARG002 - the protocol's
        """Nothing waits from before."""
        return ()

    async def run(self, late: Callable[[Late], None]) -> None:  # noqa: ARG002 - the protocol's
        """There is nothing to do."""
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        """Nothing is held."""

    async def remember(self, record_id: RecordId, prediction: Remembered) -> float | None:
        """See `JoinStore.remember`."""
        return self._ledger.remember(record_id, prediction)

    async def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """See `JoinStore.attach`."""
        return self._ledger.attach(record_id, made_at, shadow)

    async def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """See `JoinStore.join`."""
        return self._ledger.join(record_id, true_kcal, now)

"""The model that answers: leased to requests, closed after the last of them."""

from datetime import UTC, datetime
from typing import NamedTuple

import anyio

from calsvc.feedback.quality import Series
from calsvc.http.schema import Workout
from calsvc.model.bundle import Bundle
from calsvc.model.scorer import Scorer
from calsvc.registry.client import Version


class Origin(NamedTuple):
    """Where a model came from: the registry's version and the alias that pointed at it, or neither for a folder."""

    alias: str | None = None
    version: Version | None = None


class ServingModel:
    """One opened and proven model in one role. Owns its scorer."""

    def __init__(self, role: str, bundle: Bundle, scorer: Scorer, origin: Origin = Origin()) -> None:  # noqa: B008
        self.bundle = bundle
        self.engine = scorer.engine
        self.origin = origin
        self.series = Series(bundle.manifest.model_version, role)
        self.since = datetime.now(UTC).isoformat(timespec="seconds")
        self.in_use = 0
        self._scorer = scorer
        self._idle: anyio.Event | None = None
        self.told = {"model_version": self.series.model_version, "engine": self.engine}
        """What spans say of it."""
        self.header = (b"x-model-version", self.series.model_version.encode("latin-1"))
        """Told with every answer of this model."""

    async def score(self, workout: Workout) -> float:
        """Return kcal for one workout; see `Scorer.score`."""
        self.in_use += 1
        try:
            return await self._scorer.score(workout)
        finally:
            self.in_use -= 1
            if self.in_use == 0 and self._idle is not None:
                self._idle.set()

    async def retire(self) -> None:
        """Close the scorer after its last use. The model must not be reachable for new requests any more."""
        while self.in_use:
            self._idle = anyio.Event()
            await self._idle.wait()
        await self._scorer.aclose()

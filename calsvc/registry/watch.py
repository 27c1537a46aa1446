"""Keep what is served equal to what the registry's aliases point at.

A new version is fetched, opened and proven beside the old one. Whatever goes wrong, the old one stays.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import anyio

from calsvc.http.errors import BundleError, CalsvcError, RegistryError
from calsvc.model.bundle import Bundle
from calsvc.model.scorer import Scorer, open_scorer
from calsvc.registry.address import RegisteredModel
from calsvc.registry.cache import BundleCache
from calsvc.registry.client import Registry, Version
from calsvc.settings import Settings
from observability.events import tell
from observability.signals import MODEL_CHECK_FAILED, MODEL_KEPT, MODEL_NOT_REMEMBERED, MODEL_RESTORED

Role = Literal["champion", "challenger"]
Outcome = Literal["swapped", "unchanged", "rejected", "unreachable", "removed"]
Opener = Callable[[Bundle], Awaitable[Scorer]]
"""Opens a scorer and proves it, as `open_scorer` does with settings."""
CHALLENGER: Final = "challenger"
"""The alias of the version that is scored in the shadow."""
JITTER: Final = 0.2
"""Share of the interval by which a pause is longer or shorter, so that replicas do not all ask at once."""


async def open_beside(bundle: Bundle, settings: Settings) -> Scorer:
    """Do as `open_scorer` does, in a thread: loading 1 MB of trees keeps the event loop 13 ms from answering others.

    A worker process belongs to the loop that started it; waiting for it keeps nobody.
    """
    if bundle.manifest.engine == "reference":
        return await open_scorer(bundle, settings)
    return await anyio.to_thread.run_sync(anyio.run, open_scorer, bundle, settings)


class Candidate(NamedTuple):
    """A version whose scorer has been opened and proven."""

    version: Version
    bundle: Bundle
    scorer: Scorer


class Slots(Protocol):
    """Where the models sit that answer. Installing and removing must not raise."""

    async def install(self, role: Role, candidate: Candidate) -> None:
        """Use the candidate from now on, and close the one it replaces after its last use. Owns the scorer now."""

    async def remove(self, role: Role) -> None:
        """Stop using the challenger and close it: its alias is gone, or points at the champion."""

    def noted(self, role: Role, outcome: Outcome, detail: str) -> None:
        """One check of one alias has ended; `detail` names the version, or what is wrong.

        A version that is rejected is so at every check, until its alias moves or it turns out to be good.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """What to follow, and when to look. Times in seconds."""

    model: RegisteredModel
    interval: float = 30.0
    """Between two checks, give or take `JITTER`."""
    patience: float = 600.0
    """Longest pause before a version that was rejected is tried again. The first is an interval, and each doubles."""
    opening: float = 120.0
    """How long a model may take to open and to be proven."""
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    """Returns a number 0..1."""


class _Failed(NamedTuple):
    """A check that changed nothing, and why."""

    outcome: Literal["rejected", "unreachable"]
    detail: str


class _Rejection(NamedTuple):
    """A version that could not be used, how often that was tried, and when it will be tried again."""

    identity: tuple[object, ...]
    failed: _Failed
    attempts: int
    until: float


class ModelWatch:
    """Keeps champion and challenger of one model up to date. Registry and slots are the caller's, who closes them."""

    def __init__(self, settings: WatchSettings, registry: Registry, cache: Path, opener: Opener, slots: Slots) -> None:
        self._settings = settings
        self._registry = registry
        self._cache = BundleCache(cache)
        self._opener = opener
        self._slots = slots
        self._serving: dict[Role, Version] = {}
        self._rejections: dict[Role, _Rejection] = {}
        self._complaints: dict[Role, str] = {}
        self._poked = anyio.Event()

    async def start(self) -> None:
        """Load the champion, or the last good one where that fails. The challenger comes with `run`.

        Raises:
            RegistryError: there is nothing to serve, with the reason.
        """
        failed = await self._check("champion")
        if failed is None:
            return
        try:
            served = await self._install_last_good()
        except (CalsvcError, OSError) as error:
            raise RegistryError(f"{failed.detail}; the local copy does not help: {error}") from None
        if served is None:
            raise RegistryError(f"{failed.detail}; there is no local copy to serve instead")
        tell(MODEL_RESTORED, {"registered": str(served), "error.message": failed.detail})

    async def run(self) -> None:
        """Check the challenger at once, then both for ever. Raises nothing."""
        await self._check("challenger")
        while True:
            with anyio.move_on_after(self._pause()):
                await self._poked.wait()
                # Before the check: a poke during it is a reason for another one.
                self._poked = anyio.Event()
                self._rejections.clear()
            await self._check("champion")
            await self._check("challenger")

    def poke(self) -> None:
        """Check now, a version that was rejected before included. To be called in the event loop's thread."""
        self._poked.set()

    def _pause(self) -> float:
        return self._settings.interval * (1 + JITTER * (2 * self._settings.chance() - 1))

    async def _check(self, role: Role) -> _Failed | None:
        """Bring one role up to date, or tell why it stays as it is."""
        try:
            result = await self._refresh(role)
        except Exception as error:  # noqa: BLE001 - whatever it is, the model that serves goes on serving
            tell(MODEL_CHECK_FAILED, {"role": role}, error)
            result = _Failed("rejected", f"{type(error).__name__}: {error}")
        if not isinstance(result, _Failed):
            self._complaints.pop(role, None)
            self._slots.noted(role, result, str(self._serving.get(role, "none")))
            return None
        starting = role == "champion" and role not in self._serving  # then `start` tells, or its error
        if not starting and self._complaints.get(role) != result.detail:  # once, not at every check
            tell(MODEL_KEPT, {"role": role, "outcome": result.outcome, "error.message": result.detail})
        self._complaints[role] = result.detail
        self._slots.noted(role, result.outcome, result.detail)
        return result

    async def _refresh(self, role: Role) -> Outcome | _Failed:
        try:
            version = await self._registry.resolve(self._settings.model.name, self._alias(role))
        except RegistryError as error:
            return _Failed("unreachable", str(error))
        if role == "challenger" and (version is None or self._is_serving("champion", version)):
            return await self._remove_challenger()
        if version is None:
            return _Failed("rejected", f"the registry has no {self._settings.model}")
        if self._is_serving(role, version):
            self._rejections.pop(role, None)
            return "unchanged"
        return self._still_rejected(role, version) or await self._replace(role, version)

    async def _replace(self, role: Role, version: Version) -> Outcome | _Failed:
        try:
            candidate = await self._opened(version, await self._cache.fetch(self._registry, version))
        except (CalsvcError, OSError) as error:
            return self._reject(role, version, f"{version} cannot be used: {error}")
        await self._install(role, candidate)
        self._rejections.pop(role, None)
        await self._keep_books(role, version)
        return "swapped"

    async def _opened(self, version: Version, bundle: Bundle) -> Candidate:
        try:
            with anyio.fail_after(self._settings.opening):
                return Candidate(version, bundle, await self._opener(bundle))
        except TimeoutError:
            raise BundleError(f"its engine does not open within {self._settings.opening:g} s") from None

    async def _install(self, role: Role, candidate: Candidate) -> None:
        await self._slots.install(role, candidate)
        self._serving[role] = candidate.version

    async def _keep_books(self, role: Role, version: Version) -> None:
        """Note what serves for the day on which the registry is down, and clear away older copies."""
        try:
            if role == "champion":
                await self._cache.remember(self._alias(role), version)
            await self._cache.prune(version.name, list(self._serving.values()))
        except RegistryError as error:
            tell(MODEL_NOT_REMEMBERED, {"registered": str(version), "error.message": str(error)})

    async def _remove_challenger(self) -> Outcome:
        self._rejections.pop("challenger", None)
        if self._serving.pop("challenger", None) is None:
            return "unchanged"
        await self._slots.remove("challenger")
        return "removed"

    async def _install_last_good(self) -> Version | None:
        found = await self._cache.last_good(self._settings.model.name, self._alias("champion"))
        if found is None:
            return None
        candidate = await self._opened(*found)
        await self._install("champion", candidate)
        return candidate.version

    def _reject(self, role: Role, version: Version, detail: str) -> _Failed:
        failed = _Failed("rejected", detail)
        before = self._rejections.get(role)
        attempts = before.attempts + 1 if before and before.identity == version.identity else 1
        pause = min(self._settings.patience, self._settings.interval * 2 ** min(attempts - 1, 30))
        self._rejections[role] = _Rejection(version.identity, failed, attempts, self._settings.clock() + pause)
        return failed

    def _still_rejected(self, role: Role, version: Version) -> _Failed | None:
        """Return why a version is not to be tried again yet."""
        rejection = self._rejections.get(role)
        if rejection and rejection.identity == version.identity and self._settings.clock() < rejection.until:
            return rejection.failed
        return None

    def _is_serving(self, role: Role, version: Version) -> bool:
        serving = self._serving.get(role)
        return serving is not None and serving.identity == version.identity

    def _alias(self, role: Role) -> str:
        return self._settings.model.alias if role == "champion" else CHALLENGER

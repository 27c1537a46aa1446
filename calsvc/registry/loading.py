"""How models get into the service: from a bundle's folder, or from the registry by alias."""

import functools
from pathlib import Path
from typing import Final, Protocol

import anyio

from calsvc.feedback.quality import CHALLENGER, CHAMPION
from calsvc.http.errors import CalsvcError
from calsvc.model.bundle import Bundle, load_bundle
from calsvc.registry.address import RegisteredModel
from calsvc.registry.client import Registry
from calsvc.registry.mlflow_process import MlflowProcess
from calsvc.registry.serving import Origin, ServingModel
from calsvc.registry.watch import Candidate, ModelWatch, Outcome, Role, WatchSettings, open_beside
from calsvc.service import Service
from observability.events import tell
from observability.signals import MODEL_KEPT

CACHE: Final = Path("data/registry")
"""Local copies of registered bundles, for the day on which the registry is down."""


class ModelSource(Protocol):
    """Puts models into a service, and keeps them up to date."""

    async def start(self) -> None:
        """Install the first model, or raise a `CalsvcError` that says why there is none."""

    async def run(self) -> None:
        """Follow changes until cancelled. Raises nothing."""

    def poke(self) -> None:
        """Look for a change now."""

    async def aclose(self) -> None:
        """Release what the source holds; the models belong to the service."""


class FolderSource:
    """A bundle's folder: read at the start, and again when poked (after `just train`, say)."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder
        self._poked = anyio.Event()

    async def start(self) -> None:
        """See `ModelSource.start`."""
        await self._install(load_bundle(self._folder))

    async def run(self) -> None:
        """See `ModelSource.run`."""
        while True:
            await self._poked.wait()
            self._poked = anyio.Event()
            outcome = await self._reload()
            self._service.meters.model_checked(CHAMPION, outcome)

    def poke(self) -> None:
        """See `ModelSource.poke`."""
        self._poked.set()

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _install(self, bundle: Bundle) -> None:
        scorer = await open_beside(bundle, self._service.settings)
        await self._service.install(ServingModel(CHAMPION, bundle, scorer))

    async def _reload(self) -> Outcome:
        serving = self._service.champion
        try:
            bundle = load_bundle(self._folder)
            if serving is not None and serving.series.model_version == bundle.manifest.model_version:
                return "unchanged"
            await self._install(bundle)
        except CalsvcError as error:
            tell(MODEL_KEPT, {"role": CHAMPION, "outcome": "rejected", "error.message": str(error)})
            return "rejected"
        return "swapped"


class RegistrySource:
    """An alias of the registry, and the challenger beside it."""

    def __init__(self, service: Service, model: RegisteredModel) -> None:
        settings = service.settings
        self._registry: Registry = MlflowProcess(settings.tracking_uri.get_secret_value())
        self._watch = ModelWatch(
            WatchSettings(model=model, interval=settings.model_poll),
            self._registry,
            CACHE,
            functools.partial(open_beside, settings=settings),
            _ServiceSlots(service, model.alias),
        )

    async def start(self) -> None:
        """See `ModelSource.start`."""
        await self._watch.start()

    async def run(self) -> None:
        """See `ModelSource.run`."""
        await self._watch.run()

    def poke(self) -> None:
        """See `ModelSource.poke`."""
        self._watch.poke()

    async def aclose(self) -> None:
        """End the process that asks the registry."""
        await self._registry.aclose()


class _ServiceSlots:
    """The service as the watch sees it."""

    def __init__(self, service: Service, champion_alias: str) -> None:
        self._service = service
        self._alias: dict[Role, str] = {"champion": champion_alias, "challenger": CHALLENGER}

    async def install(self, role: Role, candidate: Candidate) -> None:
        origin = Origin(self._alias[role], candidate.version)
        await self._service.install(ServingModel(role, candidate.bundle, candidate.scorer, origin))

    async def remove(self, role: Role) -> None:
        if role == CHALLENGER:
            await self._service.remove_challenger()

    def noted(self, role: Role, outcome: Outcome, detail: str) -> None:  # noqa: ARG002 - the watch has logged it
        self._service.meters.model_checked(role, outcome)


def open_model_source(service: Service) -> ModelSource:
    """Return the source that the settings name; nothing is read before it starts."""
    model = service.settings.model
    return FolderSource(service, model) if isinstance(model, Path) else RegistrySource(service, model)

"""What training measured of a model stands beside what is measured of it in service."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from calsvc.model.bundle import Bundle, load_bundle
from calsvc.registry.serving import ServingModel
from tests.test_app import Service, running
from tests.test_shadow import Challenger, challenge, in_the_loop

NAME = "calsvc_model_training_rmsle"


@pytest.fixture
def service(bundle: Path) -> Iterator[Service]:
    """A service with the default settings."""
    yield from running(bundle)


def shown(service: Service) -> dict[str, float]:
    """The figure by role."""
    return {key[1]: value for key, value in service.numbers().items() if key[0] == NAME}


def test_it_is_the_figure_of_the_manifest(service: Service, bundle: Path):
    """The champion's `valid_rmsle`, from the first scrape on."""
    assert shown(service) == {"champion": load_bundle(bundle).manifest.training_metrics["valid_rmsle"]}


def test_a_challenger_has_its_own_while_it_is_there(service: Service):
    """Beside the champion's; removed with it."""
    challenge(service, Challenger(50.0))
    assert set(shown(service)) == {"champion", "challenger"}
    in_the_loop(service, service.state.remove_challenger)
    assert set(shown(service)) == {"champion"}


def test_a_model_without_a_figure_shows_none(service: Service):
    """Not 0, which would be a perfect training, and not that of the model before."""
    assert service.state.champion is not None
    champion = service.state.champion.bundle
    manifest = replace(champion.manifest, model_version="20300101T000000Z-untold", training_metrics={"mae": 2.0})
    model = ServingModel("champion", Bundle(champion.folder, manifest), Challenger(50.0))
    in_the_loop(service, service.state.install, model)
    assert shown(service) == {}

"""What a process says that it is."""

import re
from pathlib import Path

import pytest

from observability.provenance import REVISION, git_sha, resource_of, revision_noted_in


@pytest.mark.parametrize("service", ["calsvc", "streamsim"])
def test_a_resource_says_which_service_version_instance_and_commit(service: str):
    """Two processes are two instances of the same, and one process is one, whoever asks."""
    assert resource_of(service) is resource_of(service)
    one, other = dict(resource_of(service)), dict(resource_of.__wrapped__(service))
    assert one.pop("service.instance.id") != other.pop("service.instance.id")
    assert one == other
    assert one.pop("vcs.ref.head.revision", None) == git_sha()
    assert one.pop("service.name") == service
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", one.pop("service.version"))
    assert one == {}


def test_what_the_environment_says_goes_before(monkeypatch: pytest.MonkeyPatch):
    """OTEL_SERVICE_NAME before service.name in OTEL_RESOURCE_ATTRIBUTES, as OpenTelemetry has it."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,service.instance.id=one,team=data%20science")
    told = resource_of.__wrapped__("calsvc")
    assert (told["service.name"], told["service.instance.id"], told["team"]) == ("other", "one", "data science")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "calories")
    assert resource_of.__wrapped__("calsvc")["service.name"] == "calories"


@pytest.mark.parametrize(("noted", "told"), [("abc\n", "abc"), ("unknown\n", None), ("", None), (None, None)])
def test_an_image_says_the_commit_that_its_build_has_noted(tmp_path: Path, noted: str | None, told: str | None):
    """In a file of the package; none, or one that nobody knew, is no commit."""
    if noted is not None:
        (tmp_path / REVISION).write_text(noted)
    assert revision_noted_in(tmp_path) == told

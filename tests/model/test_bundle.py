"""Reading a bundle: complete and unaltered, or one clear error."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from calsvc.http.errors import BundleError
from calsvc.model.bundle import MANIFEST, ONNX, PARITY, PROFILE, TREES, Bundle, load_bundle
from calsvc.model.features import INPUTS
from tests.making import Trained

FILES = (MANIFEST, ONNX, PARITY, PROFILE, TREES)


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    folder = tmp_path / "bundle"
    shutil.copytree(trained.bundle.folder, folder)
    return folder


def positions(size: int) -> Iterator[int]:
    """First, last, and some thirty bytes between."""
    yield from {0, size - 1, *range(0, size, max(1, size // 30))}


def test_a_bundle_can_be_copied_anywhere(copy: Path, trained: Trained) -> None:
    """Nothing in it depends on where it lies."""
    assert load_bundle(copy).manifest == trained.bundle.manifest


def test_it_says_where_it_comes_from(trained: Trained) -> None:
    """Metrics, checksums, versions and the proof are in the manifest."""
    manifest = trained.bundle.manifest
    assert manifest.training_metrics == trained.artefact.metrics
    assert set(manifest.checksums) == set(FILES) - {MANIFEST}
    assert manifest.parity.rows > 200
    assert manifest.parity.max_relative_difference < manifest.parity.tolerance == 1e-4
    assert "numpy" in manifest.libraries


def test_the_profile_covers_each_input_and_the_target(trained: Trained) -> None:
    """Drift is measured against it later."""
    profiles = trained.bundle.profile()
    assert set(profiles) == {*INPUTS, "Calories"}
    for profile in profiles.values():
        assert sum(profile.counts) == profile.count == profiles["Age"].count
        assert len(profile.edges) == len(profile.counts) + 1
        assert profile.min <= profile.deciles[0] <= profile.deciles[-1] <= profile.max


@pytest.mark.parametrize("name", FILES)
def test_one_altered_byte_is_noticed(copy: Path, name: str) -> None:
    """In any file, the manifest included, wherever it is."""
    file = copy / name
    content = bytearray(file.read_bytes())
    for position in positions(len(content)):
        content[position] ^= 1
        file.write_bytes(content)
        with pytest.raises(BundleError, match=name):
            load_bundle(copy)
        content[position] ^= 1
    file.write_bytes(content)
    load_bundle(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    """And the person is told what to do."""
    (copy / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing; .*just train"):
        load_bundle(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(copy: Path, name: str) -> None:
    """As a full disk leaves it."""
    (copy / name).write_bytes((copy / name).read_bytes()[:-7])
    with pytest.raises(BundleError, match=name):
        load_bundle(copy)


def test_a_later_format_is_not_guessed_at(copy: Path) -> None:
    """A bundle of another program's format says so, whatever else it holds."""
    (copy / MANIFEST).write_text('{"format": 2, "all": "different"}')
    with pytest.raises(BundleError, match="format 2, this program reads format 1"):
        load_bundle(copy)


def test_no_bundle_at_all_is_one_line(tmp_path: Path) -> None:
    """The first start of all."""
    with pytest.raises(BundleError, match=r"there is no bundle at .*; make a new one with: just train"):
        load_bundle(tmp_path / "bundle")


def test_a_file_altered_after_loading_is_noticed_when_it_is_read(copy: Path) -> None:
    """Between the start's check and the use of a file, time passes."""
    bundle = load_bundle(copy)
    (copy / ONNX).write_bytes(b"something else")
    with pytest.raises(BundleError, match="checksum"):
        bundle.read(ONNX)


def test_versions_name_their_content(trained: Trained, copy: Path) -> None:
    """A manifest under another version's name is refused, even when it is well formed."""
    forged = msgspec.structs.replace(trained.bundle.manifest, trees=trained.bundle.manifest.trees + 1)
    (copy / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(forged), indent=2) + b"\n")
    with pytest.raises(BundleError, match="was altered"):
        load_bundle(copy)


def test_a_bundle_knows_its_own_folder_not_the_link(trained: Trained) -> None:
    """So that it stays the same while the link is moved on."""
    assert isinstance(trained.bundle, Bundle)
    assert trained.bundle.folder.name == trained.bundle.manifest.model_version

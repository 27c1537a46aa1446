"""Putting a bundle in place: the old one or the new one, whenever it is interrupted."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from calsvc.http.errors import BundleError, ParityMissed
from calsvc.model.bundle import PARITY, PROFILE, TREES, Bundle, load_bundle
from calsvc.training.publish import publish
from tests.making import Trained, successor

PUBLISH_AND_DIE = """
import os, sys
from pathlib import Path
from msgspec.structs import replace
from calsvc.model.bundle import load_bundle
from calsvc.training.publish import publish

target = Path(sys.argv[1])
old = load_bundle(target)
files = {name: old.read(name) for name in old.manifest.checksums}
deadly = int(sys.argv[2])
draft = replace(old.manifest, created_at=f"2040-01-01T00:00:{deadly:02}.000000Z")
seen = 0

def die_at_last(event, arguments):
    global seen
    if event in {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "shutil.rmtree"}:
        if "bundle" in str(arguments[0]) or event == "os.symlink":
            seen += 1
            if seen == deadly:
                os._exit(9)

sys.addaudithook(die_at_last)
publish(draft, files, target)
"""
"""Ends without warning at its n-th touch of the file system, as a power failure would end it."""


@pytest.mark.slow
def test_a_crash_at_any_step_leaves_a_whole_bundle(republish: Callable[[int], Bundle]) -> None:
    """The old one until the new one is complete; the next publishing clears up after the crash."""
    for number in range(3):
        current = republish(number)
    target = current.folder.parent.parent / "bundle"
    old_ones = new_ones = 0
    for step in range(1, 60):
        died = subprocess.run([sys.executable, "-c", PUBLISH_AND_DIE, target, str(step)], check=False)
        before, current = current, load_bundle(target)
        if current == before:
            old_ones += 1
        else:
            assert current.manifest.created_at == f"2040-01-01T00:00:{step:02}.000000Z"
            new_ones += 1
        if died.returncode == 0:
            break
        assert died.returncode == 9
    assert died.returncode == 0
    assert old_ones > 12
    assert new_ones > 1
    assert [each.name for each in target.with_name("bundles").glob(".unfinished*")] == []


def test_the_last_three_versions_stay(republish: Callable[[int], Bundle], tmp_path: Path) -> None:
    """Older ones are removed, and the link names the latest."""
    published = [republish(number) for number in range(5)]
    kept = sorted(each.name for each in (tmp_path / "bundles").iterdir() if each.is_dir())
    assert kept == [each.manifest.model_version for each in published[-3:]]
    assert load_bundle(tmp_path / "bundle") == published[-1]


def test_versions_sort_by_time_and_differ_by_content(republish: Callable[[int], Bundle]) -> None:
    """The name alone tells two models apart."""
    names = [republish(number).manifest.model_version for number in (3, 1, 2)]
    assert names[1] < names[2] < names[0]
    assert len({name.partition("-")[2] for name in names}) == 3


def test_the_same_bundle_can_be_published_again(republish: Callable[[int], Bundle]) -> None:
    """Its version is there already, and right."""
    assert republish(1) == republish(1)


def test_an_old_version_may_be_read_while_the_link_moves_on(republish: Callable[[int], Bundle]) -> None:
    """A service that has loaded it still finds its files."""
    old = republish(1)
    republish(2)
    assert old.parity_sample().rows


def test_the_data_folder_can_be_moved(republish: Callable[[int], Bundle], tmp_path: Path) -> None:
    """The link is relative."""
    (tmp_path / "data").mkdir()
    version = republish(1).manifest.model_version
    for name in ("bundle", "bundles"):
        (tmp_path / name).rename(tmp_path / "data" / name)
    assert load_bundle(tmp_path / "data" / "bundle").manifest.model_version == version


def test_a_folder_of_someone_else_is_not_touched(trained: Trained, tmp_path: Path) -> None:
    """A real folder in the target's place is an error, and stays."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "precious.txt").write_text("mine")
    with pytest.raises(BundleError, match="was not made by just train: move it away"):
        publish(successor(trained.bundle.manifest, 1), {}, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "precious.txt").read_text() == "mine"


def test_a_disk_that_refuses_is_one_error(trained: Trained, tmp_path: Path) -> None:
    """The place is named."""
    (tmp_path / "bundles").write_text("a file where the folder should be")
    with pytest.raises(BundleError, match=r"cannot write the bundle to .*bundles"):
        publish(trained.bundle.manifest, {}, tmp_path / "bundle")


def test_a_version_that_fails_its_proof_is_removed(republish: Callable[[int], Bundle], tmp_path: Path) -> None:
    """And the one before stays in use."""
    old = republish(1)
    files = {name: old.read(name) for name in old.manifest.checksums}

    def refuse(new: Bundle) -> None:
        assert new.read(TREES)
        raise ParityMissed("not today")

    with pytest.raises(ParityMissed):
        publish(successor(old.manifest, 2), files, tmp_path / "bundle", refuse)
    assert load_bundle(tmp_path / "bundle") == old
    assert [each for each in (tmp_path / "bundles").iterdir() if each.is_dir()] == [old.folder]


def test_an_incomplete_bundle_is_not_published(trained: Trained, republish: Callable[[int], Bundle]) -> None:
    """A file that the engine needs and nobody wrote is noticed before the link moves."""
    old = republish(1)
    files = {name: trained.bundle.read(name) for name in (PARITY, PROFILE)}
    target = old.folder.parent.parent / "bundle"
    with pytest.raises(BundleError, match="missing"):
        publish(replace(trained.bundle.manifest, created_at="2031-01-01T00:00:00Z"), files, target)
    assert load_bundle(target) == old

"""Which version is champion: moved by the gate, by force, or back. Every move is a set of tags on the version.

The alias `champion` is what counts. A move writes its tags first, then the alias `previous`, then `champion`: whoever
is interrupted in between has moved nothing, and repeats it. Needs the train extra.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from calsvc.http.errors import BundleError, CalsvcError, PromotionRefused, RegistryError
from calsvc.model.bundle import Bundle, load_bundle
from calsvc.registry.client import Version
from calsvc.settings import Settings
from calsvc.training.gate import Comparison
from calsvc.training.store import (
    CHALLENGER,
    Store,
    aliases,
    download,
    is_missing,
    model_name,
    open_store,
    speaking_to,
    version_of,
)

CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"
NONE: Final = "none"
"""The tag `previous_champion` of the first champion."""
_MOVE_TAGS: Final = ("promoted_", "previous_champion", "gate_", "forced_", "rolled_back_", "restored_")
"""How the names of tags begin that are about the latest promotion."""
_LAST_MOVES: Final = 20

Warn = Callable[[str], None]


class Contest(NamedTuple):
    """Two versions of one store, and their verified bundles."""

    store: Store
    candidate: Version
    bundle: Bundle
    champion: Version
    champion_bundle: Bundle


Judge = Callable[[Contest], tuple[str, Comparison]]
"""Returns where the evidence is from, and the comparison; raises a CalsvcError where there is none."""


class Wish(NamedTuple):
    """What is asked for: a version (None: the challenger), how much worse it may be, by whom, why, whether by force."""

    version: str | None
    margin: float
    by: str
    reason: str | None = None
    force: bool = False


class _Verdict(NamedTuple):
    passed: bool
    told: str
    tags: dict[str, str]


def promote(settings: Settings, wish: Wish, judge: Judge) -> str:
    """Make a version champion where the gate lets it pass, or where it is forced; return what happened.

    Raises:
        PromotionRefused: the gate's numbers say no, or there is not enough evidence.
        RegistryError: the registry does not answer, or has no such version.
        BundleError: a version's bundle is not what was registered.
    """
    store, name = open_store(settings.tracking_uri.get_secret_value()), model_name(settings)
    held = aliases(store, name)
    number = wish.version or held.get(CHALLENGER)
    if number is None and CHAMPION not in held:
        raise RegistryError(f"{name} has no version to promote: make one with just train, or name one with --version")
    if number is None:
        return f"nothing to do: no version of {name} is challenger; champion is version {held[CHAMPION]}"
    if number == held.get(CHAMPION):
        return f"nothing to do: version {number} of {name} is the champion already"
    candidate = version_of(store, name, number)
    verdict = _verdict(store, candidate, held.get(CHAMPION), wish, judge)
    if not verdict.passed and not wish.force:
        raise PromotionRefused(f"version {number} of {name} stays out: {verdict.told}")
    if aliases(store, name).get(CHAMPION) != held.get(CHAMPION):
        raise PromotionRefused(f"the champion of {name} was moved by somebody else meanwhile: look, and repeat")
    tags = {"promoted_at": _now(), "promoted_by": wish.by, "previous_champion": held.get(CHAMPION, NONE)}
    tags |= {"promoted_because": wish.reason} if wish.reason else {}
    tags |= verdict.tags if verdict.passed else verdict.tags | {"forced_by": wish.by}
    _record(store, candidate, tags, f"{'promoted' if verdict.passed else 'forced'} by {wish.by}: {verdict.told}")
    _point(store, candidate, held.get(CHAMPION))
    return f"{verdict.told}\nversion {number} of {name} is champion now; before it: {held.get(CHAMPION, NONE)}"


def rollback(settings: Settings, by: str, reason: str) -> str:
    """Make the champion before this one champion again; return what happened.

    Raises:
        PromotionRefused: there is no champion, or none before it.
        RegistryError, BundleError: as with `promote`; a version that cannot be served is not gone back to.
    """
    store, name = open_store(settings.tracking_uri.get_secret_value()), model_name(settings)
    held = aliases(store, name)
    if CHAMPION not in held:
        raise PromotionRefused(f"{name} has no champion to roll back")
    champion = version_of(store, name, held[CHAMPION])
    before = champion.tags.get("previous_champion", held.get(PREVIOUS, NONE))
    if before in (NONE, champion.version):
        raise PromotionRefused(f"no champion of {name} before version {champion.version} is known to go back to")
    restored = version_of(store, name, before)
    with TemporaryDirectory(prefix="calsvc-rollback-") as scratch:
        fetch(store, restored, Path(scratch))
    moved = {"at": _now(), "by": by}
    undone = {f"rolled_back_{key}": value for key, value in {**moved, "to": before, "because": reason}.items()}
    _record(store, champion, move_tags(champion) | undone, f"rolled back to version {before} by {by}: {reason}")
    back = {f"restored_{key}": value for key, value in {**moved, "from": champion.version}.items()}
    _record(store, restored, move_tags(restored) | back, f"restored by {by}, after version {champion.version}")
    _point(store, restored, restored.tags.get("previous_champion"))
    return f"version {before} of {name} is champion again; version {champion.version} was rolled back"


def fetch(store: Store, version: Version, into: Path) -> Bundle:
    """Download a version's bundle to an existing folder and verify it.

    Raises:
        RegistryError: its files cannot be had.
        BundleError: they are not a complete, unaltered bundle, or another version's.
    """
    with speaking_to(store.uri):
        folder = download(store, version.source, into)
    if not any(folder.iterdir()):  # MLflow makes no difference between nothing there and no such place
        raise RegistryError(f"version {version.version} of {version.name} has no files at {version.source}")
    try:
        bundle = load_bundle(folder)
    except BundleError as error:
        told = str(error).replace(f"{folder.resolve()}/", "")
        raise BundleError(f"version {version.version} of {version.name}: {told}") from None
    expected = version.tags.get("model_version", bundle.manifest.model_version)
    if bundle.manifest.model_version != expected:
        raise BundleError(
            f"version {version.version} of {version.name} is registered as {expected}, "
            f"but its files are {bundle.manifest.model_version}: do not promote it"
        )
    return bundle


def move_tags(version: Version) -> dict[str, str]:
    """Return the tags of a version that are about its latest promotion."""
    return {name: value for name, value in version.tags.items() if name.startswith(_MOVE_TAGS)}


def _verdict(store: Store, candidate: Version, champion: str | None, wish: Wish, judge: Judge) -> _Verdict:
    """Ask the gate. The candidate has to be sound in any case; with force, the champion need not be."""
    with TemporaryDirectory(prefix="calsvc-promote-") as scratch:
        folders = Path(scratch) / "candidate", Path(scratch) / "champion"
        for folder in folders:
            folder.mkdir()
        bundle = fetch(store, candidate, folders[0])
        if champion is None:
            return _Verdict(True, "there is no champion yet, so there is nothing to beat", {"gate_evidence": NONE})
        try:
            rival = version_of(store, candidate.name, champion)
            evidence, comparison = judge(Contest(store, candidate, bundle, rival, fetch(store, rival, folders[1])))
        except CalsvcError as error:
            if not wish.force:
                raise
            return _Verdict(False, f"the gate cannot tell: {error}", {"gate_evidence": NONE, "gate_said": f"{error}"})
    passed = comparison.passes(wish.margin)
    rule = f"the upper end {'is within' if passed else 'has to be within'} the margin of {wish.margin:+.2%}"
    return _Verdict(passed, f"{comparison}; {rule}", _gate_tags(evidence, comparison, wish.margin))


def _gate_tags(evidence: str, comparison: Comparison, margin: float) -> dict[str, str]:
    return {
        "gate_evidence": evidence,
        "gate_rmsle": f"{comparison.candidate:.6f}",
        "gate_champion_rmsle": f"{comparison.champion:.6f}",
        "gate_difference": f"{comparison.difference:.6f}",
        "gate_interval_low": f"{comparison.low:.6f}",
        "gate_interval_high": f"{comparison.high:.6f}",
        "gate_rows": str(comparison.rows),
        "gate_margin": f"{margin:g}",
        "gate_passed": str(comparison.passes(margin)).lower(),
    }


def _record(store: Store, version: Version, tags: Mapping[str, str], move: str) -> None:
    """Make `tags` all that the version says of its latest move, and add a line to those it keeps (`moves`)."""
    moves = [*version.tags.get("moves", "").splitlines(), f"{_now()} {move}"][-_LAST_MOVES:]
    with speaking_to(store.uri):
        for stale in move_tags(version).keys() - tags.keys():
            store.client.delete_model_version_tag(version.name, version.version, stale)
        for name, value in {**tags, "moves": "\n".join(moves)}.items():
            store.client.set_model_version_tag(version.name, version.version, name, value)


def _point(store: Store, champion: Version, previous: str | None) -> None:
    """Move the aliases. The champion is nobody's challenger: shadowing it would compare it with itself."""
    client, name = store.client, champion.name
    with speaking_to(store.uri):
        if previous not in (None, NONE):
            try:
                client.set_registered_model_alias(name, PREVIOUS, previous)
            except Exception as error:
                if not is_missing(error):  # an old version that was deleted must not stand in the way
                    raise
        client.set_registered_model_alias(name, CHAMPION, champion.version)
        held = aliases(store, name)
        if held.get(CHALLENGER) == champion.version:
            client.delete_registered_model_alias(name, CHALLENGER)
        if held.get(PREVIOUS) == champion.version:
            client.delete_registered_model_alias(name, PREVIOUS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

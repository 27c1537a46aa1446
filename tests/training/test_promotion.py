"""Who becomes champion, who does not, and what is kept of it; in an embedded store with three versions."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from calsvc.http.errors import BundleError, HandoutError, PromotionRefused, RegistryError
from calsvc.model.bundle import ONNX, PARITY, PROFILE, TREES
from calsvc.settings import Settings
from calsvc.training.export import Source
from calsvc.training.gate import Comparison
from calsvc.training.judges import may_have_seen, on_held_out_rows, on_live_truth
from calsvc.training.promotion import Contest, Judge, Wish, promote, rollback
from calsvc.training.publish import publish
from calsvc.training.store import Store, aliases, open_store, version_of
from calsvc.training.tracking import Trained as Training
from calsvc.training.tracking import open_run
from tests.making import Trained, successor

pytestmark = pytest.mark.slow

GOOD, AS_GOOD, BAD = "1", "2", "3"


@pytest.fixture(scope="module")
def three_versions(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an embedded store: two versions with the same trees, and one with a few of them only."""
    folder = tmp_path_factory.mktemp("three")
    settings = Settings(tracking_uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    source = Source(trained.handout, trained.artefact, trained.holdout / "train.csv")
    files = {name: trained.bundle.read(name) for name in (ONNX, PARITY, PROFILE, TREES)}
    for number, trees in ((1, trained.bundle.manifest.trees), (2, trained.bundle.manifest.trees), (3, 5)):
        manifest = replace(successor(trained.bundle.manifest, number), trees=trees)
        bundle = publish(manifest, files, folder / "bundle")
        kcal = np.linspace(1, 300, 40)
        open_run(settings).record(Training(source, bundle, kcal, kcal, {}, {}))
    return folder


class Shelf:
    """A store of its own for each test, and what can be asked of it."""

    def __init__(self, folder: Path, trained: Trained) -> None:
        uri = f"sqlite:///{folder}/mlruns/mlflow.db"
        self.settings = Settings(handout_dir=trained.handout, tracking_uri=uri)
        self.file = trained.holdout / "stream.csv"
        self.artifacts = folder / "mlruns" / "artifacts" / "calories"
        self.store: Store = open_store(uri)
        self.warnings: list[str] = []

    def promote(self, version: str | None = None, judge: Judge | None = None, **wish: Any) -> str:
        """Promote by the held-out rows, as `me`."""
        judge = judge or on_held_out_rows(self.settings, self.file, self.warnings.append)
        return promote(self.settings, Wish(**{"version": version, "margin": 0.02, "by": "me"} | wish), judge)

    def aliases(self) -> dict[str, str]:
        """Version by alias."""
        return aliases(self.store, "calories")

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version."""
        return version_of(self.store, "calories", version).tags

    def damage(self, version: str) -> None:
        """Alter a byte of a version's trees."""
        run_id = version_of(self.store, "calories", version).run_id
        file = self.artifacts / str(run_id) / "artifacts" / "bundle" / TREES
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


@pytest.fixture
def shelf(three_versions: Path, trained: Trained, tmp_path: Path) -> Shelf:
    """Three versions; the last one is challenger, nobody is champion."""
    shutil.copytree(three_versions / "mlruns", tmp_path / "mlruns")
    return Shelf(tmp_path, trained)


def test_the_first_champion_has_nobody_to_beat(shelf: Shelf) -> None:
    """It says so, and the one that is champion is nobody's challenger."""
    told = shelf.promote()
    assert told == (
        "there is no champion yet, so there is nothing to beat\nversion 3 of calories is champion now; before it: none"
    )
    assert shelf.aliases() == {"champion": BAD}
    tags = shelf.tags(BAD)
    assert (tags["previous_champion"], tags["promoted_by"], tags["gate_evidence"]) == ("none", "me", "none")


def test_an_equal_version_passes_the_gate(shelf: Shelf) -> None:
    """Its tags hold the numbers; the one before stays at hand."""
    shelf.promote(GOOD)
    told = shelf.promote(AS_GOOD)
    assert "+0.00% (95% interval +0.00% to +0.00%); the upper end is within the margin of +2.00%" in told
    assert shelf.aliases() == {"champion": AS_GOOD, "previous": GOOD, "challenger": BAD}
    tags = shelf.tags(AS_GOOD)
    assert tags["gate_rmsle"] == tags["gate_champion_rmsle"]
    assert (tags["gate_passed"], tags["gate_evidence"], tags["previous_champion"]) == ("true", "holdout", GOOD)
    assert tags["gate_rows"] == str(len(shelf.file.read_text().splitlines()) - 1)
    assert "forced_by" not in tags
    assert shelf.warnings == []


def test_a_worse_version_stays_out(shelf: Shelf) -> None:
    """The refusal has both errors, the interval and the margin; nothing has moved."""
    shelf.promote(GOOD)
    before = shelf.tags(BAD)
    with pytest.raises(PromotionRefused, match=r"version 3 of calories stays out: RMSLE .*95% interval .*\+2\.00%"):
        shelf.promote()
    assert shelf.aliases() == {"champion": GOOD, "challenger": BAD}
    assert shelf.tags(BAD) == before


def test_a_worse_version_passes_a_margin_that_is_wide_enough(shelf: Shelf) -> None:
    """The margin is the one thing to choose."""
    shelf.promote(GOOD)
    assert "version 3 of calories is champion now" in shelf.promote(margin=1000.0)


def test_force_is_recorded(shelf: Shelf) -> None:
    """Who, why, and against which numbers."""
    shelf.promote(GOOD)
    shelf.promote(force=True, reason="a fix is on its way", by="the owner")
    assert shelf.aliases() == {"champion": BAD, "previous": GOOD}
    tags = shelf.tags(BAD)
    assert (tags["forced_by"], tags["promoted_because"]) == ("the owner", "a fix is on its way")
    assert tags["gate_passed"] == "false"
    assert float(tags["gate_interval_high"]) > 0.02


def test_force_that_was_not_needed_is_no_override(shelf: Shelf) -> None:
    """The gate has let it pass anyway."""
    shelf.promote(GOOD)
    shelf.promote(AS_GOOD, force=True, reason="to be sure")
    assert "forced_by" not in shelf.tags(AS_GOOD)


def test_a_damaged_champion_can_be_replaced_by_force_only(shelf: Shelf) -> None:
    """The gate cannot compare with it; whoever forces has the reason on record."""
    shelf.promote(BAD)
    shelf.damage(BAD)
    with pytest.raises(BundleError, match=f"version 3 of calories: {TREES} is not the file that was published"):
        shelf.promote(GOOD)
    shelf.promote(GOOD, force=True, reason="its files are broken")
    assert shelf.aliases()["champion"] == GOOD
    assert TREES in shelf.tags(GOOD)["gate_said"]


def test_a_damaged_version_is_never_promoted(shelf: Shelf) -> None:
    """Nobody could serve it, force or not."""
    shelf.damage(GOOD)
    with pytest.raises(BundleError, match="version 1 of calories"):
        shelf.promote(GOOD, force=True, reason="please")
    assert "champion" not in shelf.aliases()


def test_without_a_challenger_there_is_nothing_to_do(shelf: Shelf) -> None:
    """Nor where the challenger is the champion, which an alias set by hand may say."""
    shelf.promote()
    assert shelf.promote() == "nothing to do: no version of calories is challenger; champion is version 3"
    shelf.store.client.set_registered_model_alias("calories", "challenger", BAD)
    assert shelf.promote() == "nothing to do: version 3 of calories is the champion already"


def test_a_version_or_model_that_does_not_exist_is_said(shelf: Shelf, tmp_path: Path) -> None:
    """And nothing is moved."""
    with pytest.raises(RegistryError, match="there is no version 77 of calories"):
        shelf.promote("77")
    empty = Settings(tracking_uri=f"sqlite:///{tmp_path}/empty/mlflow.db")
    with pytest.raises(RegistryError, match="calories has no version to promote: make one with just train"):
        promote(empty, Wish(None, 0.02, "me"), on_held_out_rows(empty, shelf.file, print))


def test_a_champion_that_moves_during_the_comparison_is_noticed(shelf: Shelf) -> None:
    """The numbers were about another one."""
    shelf.promote(GOOD)

    def meanwhile(_: Contest) -> tuple[str, Comparison]:
        shelf.store.client.set_registered_model_alias("calories", "champion", AS_GOOD)
        return "holdout", Comparison(0.1, 0.1, 0.0, 0.0, 0.0, 100)

    with pytest.raises(PromotionRefused, match="moved by somebody else meanwhile"):
        shelf.promote(BAD, judge=meanwhile)
    assert shelf.aliases()["champion"] == AS_GOOD


def test_a_rollback_restores_the_one_before_and_is_kept_on_both(shelf: Shelf) -> None:
    """And once more the one before that."""
    shelf.promote(GOOD)
    shelf.promote(AS_GOOD)
    shelf.promote(BAD, margin=1000.0)
    told = rollback(shelf.settings, "the owner", "too many complaints")
    assert told == "version 2 of calories is champion again; version 3 was rolled back"
    assert shelf.aliases() == {"champion": AS_GOOD, "previous": GOOD}
    undone, restored = shelf.tags(BAD), shelf.tags(AS_GOOD)
    assert (undone["rolled_back_by"], undone["rolled_back_to"]) == ("the owner", AS_GOOD)
    assert undone["rolled_back_because"] == "too many complaints"
    assert (restored["restored_by"], restored["restored_from"]) == ("the owner", BAD)
    rollback(shelf.settings, "the owner", "again")
    assert shelf.aliases() == {"champion": GOOD}
    with pytest.raises(PromotionRefused, match="no champion of calories before version 1 is known"):
        rollback(shelf.settings, "the owner", "and again")


def test_every_move_stays_in_the_list_of_moves(shelf: Shelf) -> None:
    """The other tags are about the latest promotion only."""
    shelf.promote(GOOD)
    shelf.promote(BAD, force=True, reason="to try")
    rollback(shelf.settings, "me", "no good")
    shelf.promote(BAD, margin=1000.0)
    tags = shelf.tags(BAD)
    moves = [line.split(" ", 1)[1] for line in tags["moves"].splitlines()]
    assert [move.split(" by ")[0] for move in moves] == ["forced", "rolled back to version 1", "promoted"]
    assert not {"forced_by", "promoted_because", "rolled_back_at"} & tags.keys()


def test_a_rollback_without_champion_or_target_is_refused(shelf: Shelf) -> None:
    """The champion stays where the version before is gone or damaged."""
    with pytest.raises(PromotionRefused, match="calories has no champion to roll back"):
        rollback(shelf.settings, "me", "")
    shelf.promote(GOOD)
    shelf.promote(AS_GOOD)
    shelf.damage(GOOD)
    with pytest.raises(BundleError, match="version 1 of calories"):
        rollback(shelf.settings, "me", "")
    shelf.store.client.delete_model_version("calories", GOOD)
    with pytest.raises(RegistryError, match="there is no version 1 of calories"):
        rollback(shelf.settings, "me", "")
    assert shelf.aliases()["champion"] == AS_GOOD


def test_a_deleted_old_version_does_not_stand_in_the_way(shelf: Shelf) -> None:
    """Only the version that is gone back to has to exist."""
    shelf.promote(GOOD)
    shelf.promote(AS_GOOD)
    shelf.promote(BAD, margin=1000.0)
    shelf.store.client.delete_model_version("calories", GOOD)
    rollback(shelf.settings, "me", "")
    assert shelf.aliases() == {"champion": AS_GOOD}


def test_a_champion_that_was_set_by_hand_can_be_rolled_back(shelf: Shelf) -> None:
    """It has no tags; the alias `previous` says where to go."""
    shelf.promote(GOOD)
    shelf.promote(AS_GOOD)
    shelf.store.client.set_registered_model_alias("calories", "champion", BAD)
    rollback(shelf.settings, "me", "")
    assert shelf.aliases()["champion"] == GOOD


def test_rows_that_may_have_been_trained_on_are_warned_of(shelf: Shelf, tmp_path: Path) -> None:
    """The rows of another split look like truth and are not."""
    shelf.promote(GOOD)
    shelf.file = Path(shutil.copy(shelf.file, tmp_path / "stream.csv"))
    shelf.promote(AS_GOOD)
    assert [warning.split(" was ")[0] for warning in shelf.warnings] == ["version 2", "version 1"]


def test_too_few_rows_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    """An interval over a handful of rows says nothing."""
    shelf.promote(GOOD)
    lines = shelf.file.read_text().splitlines()
    shelf.file = tmp_path / "few.csv"
    shelf.file.write_text("\n".join(lines[:11]) + "\n")
    with pytest.raises(PromotionRefused, match=r"few\.csv has 10 rows, at least 30 are needed"):
        shelf.promote(AS_GOOD)


@pytest.mark.parametrize(
    ("tags", "seen"),
    [
        ({}, True),
        ({"split_seed": "0", "split_fraction": "0.3"}, False),
        ({"split_seed": "0", "split_fraction": "0.5"}, False),
        ({"split_seed": "0", "split_fraction": "0.2"}, True),
        ({"split_seed": "1", "split_fraction": "0.3"}, True),
    ],
)
def test_a_larger_split_of_the_same_seed_holds_out_the_same_rows(
    trained: Trained, tags: dict[str, str], seen: bool
) -> None:
    """The rows here come from a split with seed 0 and fraction 0.3."""
    assert may_have_seen(tags, trained.holdout / "stream.csv") == seen


def test_a_reference_version_needs_its_handout(shelf: Shelf, trained: Trained) -> None:
    """Its answers come from the handout's own code."""
    manifest = replace(trained.bundle.manifest, engine="reference", handout_sha256="another")
    bundle = trained.bundle._replace(manifest=manifest)
    version = version_of(shelf.store, "calories", GOOD)
    judge = on_held_out_rows(shelf.settings, shelf.file, shelf.warnings.append)
    with pytest.raises(HandoutError, match="set CALSVC_HANDOUT_DIR to the one it was trained with"):
        judge(Contest(shelf.store, version, bundle, version, trained.bundle))


def run(command: str, *arguments: str, shelf: Shelf) -> subprocess.CompletedProcess[str]:
    """Run `python -m calsvc.training.<command>` on a store."""
    return subprocess.run(
        [sys.executable, "-m", f"calsvc.training.{command}", *arguments],
        env=os.environ | {"MLFLOW_TRACKING_URI": shelf.settings.tracking_uri.get_secret_value()},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_tell_the_outcome_by_exit_code_and_one_line(shelf: Shelf) -> None:
    """A refusal is 1, and MLflow itself says nothing."""
    shelf.promote(GOOD)
    refused = run("promote", "--data", str(shelf.file), shelf=shelf)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: version 3 of calories stays out: RMSLE ")
    assert refused.stderr.count("\n") == 1
    refused = run("rollback", shelf=shelf)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "error: no champion of calories before version 1 is known to go back to\n"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--force"], 1, "error: --force needs a --reason"),
        (["--margin", "-1"], 2, "a number of at least 0 is expected"),
        (["--margin", "nan"], 2, "a number of at least 0 is expected"),
        (["--version", "0"], 2, "a whole number of at least 1 is expected"),
        (["--on-live", "127.0.0.1"], 2, "--on-live: '***': expected an address such as"),
        (["--on-live", "http://me:s3cret/pass@host"], 2, "--on-live: 'http://...': expected an address such as"),
        (["--on-live", "http://me:12/s3cret@host"], 2, "--on-live: 'http://...': expected an address such as"),
        (["--on-live", "HTTP://me:s3cret@[::1"], 2, "--on-live: 'HTTP://...': expected an address such as"),
    ],
)
def test_unusable_arguments_are_refused_at_once(
    three_versions: Path, trained: Trained, arguments: list[str], code: int, told: str
) -> None:
    """Before anything is opened."""
    refused = run("promote", *arguments, shelf=Shelf(three_versions, trained))
    assert refused.returncode == code
    assert told in refused.stderr


def test_live_truth_decides_by_the_same_rule(shelf: Shelf, serve_metrics: Callable[[bytes], str]) -> None:
    """Sums of a service that say the challenger is the better one, and later sums that say it is not."""
    shelf.promote(GOOD)
    pair = [shelf.tags(each)["model_version"] for each in (GOOD, BAD)]
    judge = on_live_truth(serve_metrics(metrics(*pair, challenger=4.5)), 200)
    with pytest.raises(PromotionRefused, match=r"RMSLE 0\.10607 against the champion's 0\.10000 on 400 rows: \+6\.07%"):
        shelf.promote(judge=judge)
    serve_metrics(metrics(*pair, challenger=3.9))
    assert "RMSLE 0.09874 against the champion's 0.10000 on 400 rows: -1.26%" in shelf.promote(judge=judge)
    assert shelf.tags(BAD)["gate_evidence"] == "live"


def metrics(champion_version: str, challenger_version: str, challenger: float) -> bytes:
    """A service's text: 400 records, squared log errors of 4.0 in sum for the champion."""
    pair = f'champion_version="{champion_version}",challenger_version="{challenger_version}"'
    lines = [
        f'calsvc_quality_matched_total{{model_version="{champion_version}",role="champion"}} 500',
        f'calsvc_quality_matched_total{{model_version="{challenger_version}",role="challenger"}} 400',
        f"calsvc_quality_paired_total{{{pair}}} 400",
        f'calsvc_quality_paired_squared_log_error_total{{{pair},role="champion"}} 4.0',
        f'calsvc_quality_paired_squared_log_error_total{{{pair},role="challenger"}} {challenger}',
        f"calsvc_quality_paired_squared_difference_total{{{pair}}} 0.002",
    ]
    return ("\n".join(lines) + "\n").encode()

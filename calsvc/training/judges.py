"""The two kinds of evidence that the gate accepts: held-out rows, and truth that a running service has seen."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calsvc.handout.form import fingerprint
from calsvc.http.errors import HandoutError, PromotionRefused
from calsvc.model.bundle import Bundle, sha256
from calsvc.registry.client import Version
from calsvc.settings import Settings
from calsvc.training.batch import WORKER_ROWS, predict_rows
from calsvc.training.gate import FEWEST, Comparison, compare_rows, compare_sums, squared_log_errors
from calsvc.training.live import paired_sums, read_metrics
from calsvc.training.promotion import Contest, Judge, Warn
from calsvc.training.rows import Rows, read_rows
from calsvc.training.split import existing_split
from calsvc.training.store import Store, is_missing, speaking_to


def on_held_out_rows(settings: Settings, file: Path, warn: Warn) -> Judge:
    """Judge by the labelled rows of a CSV, which both versions answer; it should hold no row that either has seen."""

    def judge(contest: Contest) -> tuple[str, Comparison]:
        rows = read_rows(file, labelled=True)
        if any(each.manifest.engine == "reference" for each in (contest.bundle, contest.champion_bundle)):
            rows = rows.first(WORKER_ROWS)
        if len(rows.frame) < FEWEST:
            raise PromotionRefused(f"{file} has {len(rows.frame)} rows, at least {FEWEST} are needed to compare")
        for version in (contest.candidate, contest.champion):
            if may_have_seen(_run_tags(contest.store, version), file):
                warn(
                    f"version {version.version} was trained on another split than the one {file} is from: it may have "
                    "seen some of these rows, and look better than it is"
                )
        candidate, champion = (_errors(settings, each, rows) for each in (contest.bundle, contest.champion_bundle))
        return "holdout", compare_rows(candidate, champion)

    return judge


def on_live_truth(url: str, fewest: int) -> Judge:
    """Judge by the records that a service has let both versions answer, and whose truth has come."""

    def judge(contest: Contest) -> tuple[str, Comparison]:
        champion, candidate = contest.champion_bundle.manifest, contest.bundle.manifest
        sums = paired_sums(read_metrics(url), champion.model_version, candidate.model_version, fewest)
        return "live", compare_sums(sums)

    return judge


def may_have_seen(tags: dict[str, str], file: Path) -> bool:
    """Tell whether rows of `file` can have been among those that the run with these tags trained on.

    They were not where the run's data is the train.csv beside the file, or where both come from splits with one seed:
    a row is held out by its hash, in a larger split whenever it is in a smaller one.
    """
    split = existing_split(file.parent)
    if split is None or file.name != "stream.csv":
        return True
    if tags.get("data_sha256") == sha256((file.parent / "train.csv").read_bytes()):
        return False
    fraction = float(tags.get("split_fraction", "0"))
    return tags.get("split_seed") != str(split.seed) or split.fraction > fraction


def _run_tags(store: Store, version: Version) -> dict[str, str]:
    """Return what the run that made a version says of itself; nothing where there is no such run any more."""
    if version.run_id is None:
        return {}
    with speaking_to(store.uri):
        try:
            return dict(store.client.get_run(version.run_id).data.tags)
        except Exception as error:
            if is_missing(error):
                return {}
            raise


def _errors(settings: Settings, bundle: Bundle, rows: Rows) -> NDArray[np.float64]:
    manifest = bundle.manifest
    if manifest.engine == "reference" and manifest.handout_sha256 != fingerprint(settings.handout_dir):
        raise HandoutError(
            f"{manifest.model_version} answers with its handout's own code, and {settings.handout_dir} is another "
            "handout: set CALSVC_HANDOUT_DIR to the one it was trained with"
        )
    assert rows.target is not None  # noqa: S101 - labelled rows were asked for
    return squared_log_errors(rows.target, predict_rows(bundle, settings, rows))

"""What a running service knows about champion and challenger, read from its /metrics. One replica's view."""

from collections.abc import Iterable, Mapping
from http.client import HTTPException
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from calsvc.http.errors import PromotionRefused, RegistryError
from calsvc.training.gate import PairedSums
from observability.addresses import without_user
from observability.http_clients import get_text

_PATIENCE: Final = 10.0
"""Seconds that the service may take."""
_MATCHED: Final = "calsvc_quality_matched_total"
_PAIRED: Final = "calsvc_quality_paired_total"
_PAIRED_ERRORS: Final = "calsvc_quality_paired_squared_log_error_total"
_PAIRED_SPREAD: Final = "calsvc_quality_paired_squared_difference_total"
ROLES: Final = ("champion", "challenger")


class Sample(NamedTuple):
    """One line of /metrics."""

    name: str
    labels: Mapping[str, str]
    value: float


def read_metrics(url: str) -> list[Sample]:
    """Return what the service at `url` exposes under /metrics.

    Raises:
        RegistryError: it does not answer, or not with metrics.
    """
    address = f"{url.rstrip('/')}/metrics"
    try:
        text = get_text(address, _PATIENCE)
        return [Sample(*each[:3]) for family in text_string_to_metric_families(text) for each in family.samples]
    except (OSError, HTTPException, ValueError) as error:
        shown = without_user(address)
        raise RegistryError(f"no metrics at {shown}: {error}; is the service running there?") from None


def paired_sums(samples: Iterable[Sample], champion: str, challenger: str, fewest: int) -> PairedSums:
    """Return the sums over the records that both versions (`model_version` of their bundles) have answered.

    Raises:
        PromotionRefused: other versions are served, or fewer than `fewest` truths have come for either or for both.
    """
    totals: dict[tuple[str, ...], float] = {}
    for each in samples:
        key = (each.name, *(each.labels.get(name, "") for name in _LABELS.get(each.name, ())))
        totals[key] = totals.get(key, 0.0) + each.value
    served = {role: sorted(key[1] for key in totals if key[0] == _MATCHED and key[2] == role) for role in ROLES}
    for role, version in zip(ROLES, (champion, challenger), strict=True):
        if version not in served[role]:
            known = ", ".join(served[role]) or "none"
            raise PromotionRefused(f"the registry's {role} is {version}; the service has truth for: {known}")
    pair = (champion, challenger)
    counts = [totals[_MATCHED, champion, "champion"], totals[_MATCHED, challenger, "challenger"]]
    counts.append(totals.get((_PAIRED, *pair), 0.0))
    if min(counts) < fewest:
        told = "{:.0f} truths for the champion, {:.0f} for the challenger, {:.0f} for both".format(*counts)
        raise PromotionRefused(f"{told}: at least {fewest} of each are needed; wait, or lower --min-samples")
    return PairedSums(
        records=int(counts[2]),
        champion=totals.get((_PAIRED_ERRORS, *pair, "champion"), 0.0),
        candidate=totals.get((_PAIRED_ERRORS, *pair, "challenger"), 0.0),
        squared_differences=totals.get((_PAIRED_SPREAD, *pair), 0.0),
    )


_LABELS: Final = {
    _MATCHED: ("model_version", "role"),
    _PAIRED: ("champion_version", "challenger_version"),
    _PAIRED_ERRORS: ("champion_version", "challenger_version", "role"),
    _PAIRED_SPREAD: ("champion_version", "challenger_version"),
}

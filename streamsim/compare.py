"""The service's own numbers beside those of the record. Pure: texts of /metrics and a report in, lines out.

Counters are compared over the run (after minus before). The gauges look back over the service's window, so they can
only be compared when the run is all that the service has seen.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from streamsim.report import Report

CHAMPION: Final = {"role": "champion"}
EXACT: Final = 0.0
ERROR_MEASURE: Final = 1e-6
SHARE: Final = 1e-6
LAG_S: Final = 0.25
"""The service sees a truth before, and a prediction before, the simulator has its answer: network and queueing."""

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Line(NamedTuple):
    """One number from both sides; None where a side has none."""

    name: str
    service: float | None
    offline: float | None
    tolerance: float

    @property
    def difference(self) -> float | None:
        """Service minus offline."""
        return None if self.service is None or self.offline is None else self.service - self.offline

    @property
    def agrees(self) -> bool:
        """Both sides have the number, and the same one within the tolerance."""
        return self.difference is not None and abs(self.difference) <= self.tolerance


def parse(text: str) -> Samples:
    """Read Prometheus text into samples by name and labels."""
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples)
    return {(sample.name, frozenset(sample.labels.items())): float(sample.value) for sample in samples}


def total(samples: Samples, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """Add up the samples of a name that carry these labels, None where there is none."""
    wanted = set((labels or {}).items())
    found = [value for (each, carried), value in samples.items() if each == name and wanted <= carried]
    return math.fsum(found) if found else None


def compare(before: Samples, after: Samples, offline: Report) -> list[Line]:
    """Put every number that both sides know side by side."""

    def grown(name: str, labels: Mapping[str, str] | None = None) -> float | None:
        end = total(after, name, labels)
        return None if end is None else end - (total(before, name, labels) or 0.0)

    matched = grown("calsvc_quality_matched_total", CHAMPION)
    squared = grown("calsvc_quality_squared_log_error_total", CHAMPION)
    absolute = grown("calsvc_quality_absolute_error_kcal_total", CHAMPION)
    answered = grown("calsvc_predictions_total", CHAMPION)
    replaced = grown("calsvc_predictions_replaced_total") or 0.0  # records that were asked for again: a lost answer
    mean_squared = _ratio(squared, matched)
    lag = _ratio(grown("calsvc_feedback_lag_seconds_sum"), grown("calsvc_feedback_lag_seconds_count"))
    lines = [
        Line("predictions", None if answered is None else answered - replaced, offline.acknowledged, EXACT),
        Line("matched", matched, offline.joined, EXACT),
        Line(
            "RMSLE, from counters",
            None if mean_squared is None else math.sqrt(mean_squared),
            offline.rmsle,
            ERROR_MEASURE,
        ),
        Line("MAE kcal, from counters", _ratio(absolute, matched), offline.mae, ERROR_MEASURE),
        Line("feedback lag mean s", lag, offline.lag_mean, LAG_S),
    ]
    return lines if total(before, "calsvc_predictions_total") else lines + _gauges(after, offline)


def _gauges(after: Samples, offline: Report) -> list[Line]:
    coverage = "calsvc_feedback_coverage_ratio"
    return [
        Line("RMSLE, last 5 minutes", total(after, "calsvc_quality_rmsle", CHAMPION), offline.rmsle, ERROR_MEASURE),
        Line("MAE kcal, last 5 minutes", total(after, "calsvc_quality_mae_kcal", CHAMPION), offline.mae, ERROR_MEASURE),
        Line("coverage, window", total(after, coverage, {"basis": "window"}), offline.coverage, SHARE),
        Line("coverage, matured", total(after, coverage, {"basis": "matured"}), offline.coverage, SHARE),
    ]


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None

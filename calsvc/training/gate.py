"""Is a candidate not worse than the champion by more than a margin? Pure statistics, two ways to the same rule.

The rule: the upper end of the 95 % confidence interval of (candidate - champion) / champion, of their RMSLEs, is at
most the margin. An interval that is too wide to tell therefore refuses.

On held-out rows the interval is a paired bootstrap: both answer the same rows, which are drawn with replacement. On
live records only sums are known; there it is the normal interval of the mean paired difference of squared log errors,
and the rule is the same one, squared: mean difference <= ((1 + margin)^2 - 1) * the champion's mean squared log error.
"""

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
FEWEST: Final = 30
"""Rows below which an interval says nothing."""


class Comparison(NamedTuple):
    """Two RMSLEs on the same `rows`, and their relative difference (candidate - champion) / champion, its interval."""

    candidate: float
    champion: float
    difference: float
    low: float
    high: float
    rows: int

    def passes(self, margin: float) -> bool:
        """Apply the rule; what is not a number does not pass."""
        return self.rows >= FEWEST and self.high <= margin

    def __str__(self) -> str:
        """Return the numbers in a line."""
        return (
            f"RMSLE {self.candidate:.5f} against the champion's {self.champion:.5f} on {self.rows} rows: "
            f"{self.difference:+.2%} ({CONFIDENCE:.0%} interval {self.low:+.2%} to {self.high:+.2%})"
        )


class PairedSums(NamedTuple):
    """Sums over the records that both have answered: squared log errors of each, and squares of their differences."""

    records: int
    champion: float
    candidate: float
    squared_differences: float


def squared_log_errors(truth: NDArray[np.float64], kcal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (log1p(predicted) - log1p(true))^2 for each row; a negative prediction counts as 0 kcal."""
    return np.asarray((np.log1p(np.maximum(kcal, 0.0)) - np.log1p(truth)) ** 2)


def compare_rows(candidate: NDArray[np.float64], champion: NDArray[np.float64], seed: int = 0) -> Comparison:
    """Compare squared log errors of the same rows, both of shape (n,), by a paired bootstrap (percentiles)."""
    rows = len(champion)
    random = np.random.default_rng(seed)
    differences = np.empty(RESAMPLES)
    for each in range(RESAMPLES):
        drawn = random.integers(rows, size=rows)
        differences[each] = _relative(float(candidate[drawn].mean()), float(champion[drawn].mean()))
    tail = (1 - CONFIDENCE) / 2
    # An infinite difference (a champion without error) has no neighbour to interpolate with.
    low, high = np.quantile(differences, [tail, 1 - tail], method="inverted_cdf")
    ours, theirs = float(candidate.mean()), float(champion.mean())
    return Comparison(math.sqrt(ours), math.sqrt(theirs), _relative(ours, theirs), float(low), float(high), rows)


def compare_sums(sums: PairedSums) -> Comparison:
    """Compare by sums over at least two records; the interval's ends are given as differences of RMSLE, too."""
    champion, candidate = sums.champion / sums.records, sums.candidate / sums.records
    mean = candidate - champion
    variance = max(0.0, sums.squared_differences / sums.records - mean**2) * sums.records / (sums.records - 1)
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance / sums.records)
    low, high = (_relative(max(0.0, champion + mean + end), champion) for end in (-half, half))
    return Comparison(
        math.sqrt(candidate), math.sqrt(champion), _relative(candidate, champion), low, high, sums.records
    )


def _relative(candidate: float, champion: float) -> float:
    """Return the relative difference of two RMSLEs, given their squares."""
    if champion == 0:
        return 0.0 if candidate == 0 else math.inf
    return math.sqrt(candidate / champion) - 1

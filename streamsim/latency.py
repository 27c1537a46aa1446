"""Latencies in HDR histograms: 1 us to 1 h at three significant digits, 200 kB each, whatever the number of records."""

from typing import Final, NamedTuple

from hdrh.histogram import HdrHistogram

HIGHEST_US: Final = 3_600_000_000


class Quantiles(NamedTuple):
    """What a histogram says, in milliseconds; None where nothing was recorded."""

    samples: int
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Latency:
    """One distribution of durations."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, HIGHEST_US, 3)

    def record(self, seconds: float) -> None:
        """Count one duration; below 1 us counts as 1 us, above 1 h as 1 h."""
        self._histogram.record_value(min(max(1, round(seconds * 1e6)), HIGHEST_US))

    def quantiles(self) -> Quantiles:
        """Return the usual quantiles so far; takes about a millisecond."""
        samples = self._histogram.get_total_count()
        if not samples:
            return Quantiles(0, None, None, None, None)
        found = self._histogram.get_percentile_to_value_dict([50, 95, 99])
        return Quantiles(samples, found[50] / 1e3, found[95] / 1e3, found[99] / 1e3, self._histogram.max_value / 1e3)

"""Latencies in HDR histograms: 1 us to 1 h at three significant digits, 200 kB each, whatever the number of records."""

import math
from typing import Final, NamedTuple, Self

from hdrh.histogram import HdrHistogram

HIGHEST_US: Final = 3_600_000_000
CURVE_STEPS: Final = 5
"""Points of a curve each time the distance to 100 % halves."""


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

    @classmethod
    def decoded(cls, text: str) -> Self:
        """Return the distribution that `encoded` wrote.

        Raises:
            Exception: of the library, of many kinds, where the text is something else.
        """
        latency = cls()
        latency._histogram = HdrHistogram.decode(text)
        return latency

    def record(self, seconds: float) -> None:
        """Count one duration; below 1 us counts as 1 us, above 1 h as 1 h."""
        self._histogram.record_value(min(max(1, round(seconds * 1e6)), HIGHEST_US))

    def curve(self) -> list[tuple[float, float]]:
        """Return (percentile, milliseconds) pairs, finer towards 100, as far as the number of samples has a meaning."""
        samples = self._histogram.get_total_count()
        if not samples:
            return []
        steps = range(math.ceil(CURVE_STEPS * math.log2(samples)) + 1)
        wanted = [100 * (1 - 2 ** (-step / CURVE_STEPS)) for step in steps] + [100.0]
        found = self._histogram.get_percentile_to_value_dict(wanted)
        return [(each, found[each] / 1e3) for each in wanted]

    def at(self, percentile: float) -> float | None:
        """Return the milliseconds that `percentile` of the durations do not exceed."""
        if not self._histogram.get_total_count():
            return None
        return float(self._histogram.get_value_at_percentile(percentile)) / 1e3

    def encoded(self) -> str:
        """Return the histogram in HdrHistogram's own compressed form (V2, base64, microseconds), to be merged."""
        return bytes(self._histogram.encode()).decode()

    def quantiles(self) -> Quantiles:
        """Return the usual quantiles so far; takes about a millisecond."""
        samples = self._histogram.get_total_count()
        if not samples:
            return Quantiles(0, None, None, None, None)
        found = self._histogram.get_percentile_to_value_dict([50, 95, 99])
        return Quantiles(samples, found[50] / 1e3, found[95] / 1e3, found[99] / 1e3, self._histogram.max_value / 1e3)

"""How well predictions did, from truth that arrives late: pure sums over seconds, the time is always an argument.

Everything is kept in rings of one-second buckets, so that memory and the cost of a scrape depend on the length of
the window and not on the rate. A second `s` lies in the window at `now` when `floor(now) - window < s <= floor(now)`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
MAX_SERIES: Final = 16
"""Series (model version and role) that keep their sums; the longest known one is dropped first."""


class Ring:
    """Sums of `columns` values per second, for the last `seconds` seconds."""

    def __init__(self, seconds: int, columns: int) -> None:
        self._stamps = [-1] * seconds
        self._sums = [[0.0] * columns for _ in range(seconds)]
        self._columns = columns

    def at(self, second: int) -> list[float]:
        """Return the sums of `second` to add to; what is added to a second already left behind goes nowhere."""
        slot = second % len(self._stamps)
        if self._stamps[slot] == second:
            return self._sums[slot]
        fresh = [0.0] * self._columns
        if self._stamps[slot] < second:
            self._stamps[slot] = second
            self._sums[slot] = fresh
        return fresh

    def buckets(self, after: int, through: int) -> list[list[float]]:
        """Return the sums of each second `after < s <= through` that has any."""
        size = len(self._stamps)
        return [
            self._sums[second % size]
            for second in range(max(after, through - size) + 1, through + 1)
            if self._stamps[second % size] == second
        ]

    def totals(self, after: int, through: int) -> tuple[float, ...]:
        """Sum each column over the seconds `after < s <= through`."""
        buckets = self.buckets(after, through)
        return tuple(sum(bucket[column] for bucket in buckets) for column in range(self._columns))


class Series(NamedTuple):
    """Whose numbers these are."""

    model_version: str
    role: str


class Quality(NamedTuple):
    """Error sums over matched feedback; they add up over seconds and over replicas."""

    matched: int
    squared_log_error: float
    absolute_error_kcal: float

    @property
    def rmsle(self) -> float:
        """Root mean squared log error; `matched` must not be 0."""
        return math.sqrt(self.squared_log_error / self.matched)

    @property
    def mae_kcal(self) -> float:
        """Mean absolute error; `matched` must not be 0."""
        return self.absolute_error_kcal / self.matched


class SeriesSnapshot(NamedTuple):
    """All that is known of one series. `window` and `rolling_mean_kcal` are None while the window holds no sample."""

    series: Series
    predictions: int
    total: Quality
    window: Quality | None
    rolling_mean_kcal: float | None


class Pair(NamedTuple):
    """Two model versions that answered the same records."""

    champion_version: str
    challenger_version: str


class PairedSums(NamedTuple):
    """Squared log errors of both over the records that both answered and whose truth came; they add up."""

    records: int = 0
    champion: float = 0.0
    challenger: float = 0.0
    squared_difference: float = 0.0
    """Sum of (challenger's squared log error - champion's)^2, for the spread of the mean difference."""

    def plus(self, champion: float, challenger: float) -> "PairedSums":
        """Return the sums with one more record, given the squared log errors of both."""
        return PairedSums(
            self.records + 1,
            self.champion + champion,
            self.challenger + challenger,
            self.squared_difference + (challenger - champion) ** 2,
        )


class Coverage(NamedTuple):
    """Share of predictions that have their label; None where there is nothing to divide by."""

    window: float | None
    matured: float | None


def squared_log_error(predicted_kcal: float, true_kcal: float) -> float:
    """Return (log1p(predicted) - log1p(true))**2, the summand of RMSLE; a negative prediction counts as 0 kcal."""
    difference = math.log1p(max(predicted_kcal, 0.0)) - math.log1p(true_kcal)
    return difference * difference


class _Sums:
    """What the scoreboard keeps of one series."""

    def __init__(self, window: int) -> None:
        self.predictions = 0
        self.matched = 0
        self.squared_log_error = 0.0
        self.absolute_error = 0.0
        self.answered = Ring(window, columns=2)  # by second of prediction: count, kcal
        self.judged = Ring(window, columns=3)  # by second of feedback: count, squared log error, absolute error

    def snapshot(self, series: Series, after: int, through: int) -> SeriesSnapshot:
        count, kcal = self.answered.totals(after, through)
        matched, squared, absolute = self.judged.totals(after, through)
        return SeriesSnapshot(
            series=series,
            predictions=self.predictions,
            total=Quality(self.matched, self.squared_log_error, self.absolute_error),
            window=Quality(int(matched), squared, absolute) if matched else None,
            rolling_mean_kcal=kcal / count if count else None,
        )


class Scoreboard:
    """Counts predictions and judges them when their truth arrives. `now` is in seconds of a clock that never runs back.

    Args:
        window: length of the rolling window, whole seconds.
        label_delay: age at which the label of a prediction is due, seconds.
    """

    def __init__(self, window: int, label_delay: float) -> None:
        self._window = window
        self._label_delay = label_delay
        self._series: dict[Series, _Sums] = {}
        self._pairs: dict[Pair, PairedSums] = {}
        self.replacements = 0
        """Predictions that were replaced: a later one of the same record took their place before their label came."""
        # By second of prediction: predictions, those whose label came, and those that were replaced. Long enough that a
        # whole window has matured.
        self._made = Ring(window + math.ceil(label_delay) + 2, columns=3)
        self._labels = Ring(window, columns=1)  # by second of feedback: labels that came

    def open(self, series: Series) -> None:
        """Begin to count a series, so that its counters stand at 0 before the first event."""
        self._sums(series)

    def predicted(self, series: Series, kcal: float, made_at: float) -> None:
        """Count a prediction that was answered."""
        second = math.floor(made_at)
        sums = self._sums(series)
        sums.predictions += 1
        answered = sums.answered.at(second)
        answered[0] += 1.0
        answered[1] += kcal
        if series.role == CHAMPION:  # a shadow prediction waits for the same label: it counts once in coverage
            self._made.at(second)[0] += 1.0

    def restored(self, made_at: float) -> None:
        """Know of a prediction that another process has answered and counted, and whose label may come to this one."""
        self._made.at(math.floor(made_at))[0] += 1.0

    def replaced(self, made_at: float) -> None:
        """Know that the prediction made then gets no label: a later one of the same record will have it."""
        self.replacements += 1
        self._made.at(math.floor(made_at))[2] += 1.0

    def judged(self, series: Series, kcal: float, made_at: float, true_kcal: float, now: float) -> float:
        """Charge a prediction with its truth; return its squared log error."""
        squared = squared_log_error(kcal, true_kcal)
        absolute = abs(kcal - true_kcal)
        sums = self._sums(series)
        sums.matched += 1
        sums.squared_log_error += squared
        sums.absolute_error += absolute
        judged = sums.judged.at(math.floor(now))
        judged[0] += 1.0
        judged[1] += squared
        judged[2] += absolute
        if series.role == CHAMPION:
            self._made.at(math.floor(made_at))[1] += 1.0
            self._labels.at(math.floor(now))[0] += 1.0
        return squared

    def compared(self, pair: Pair, champion: float, challenger: float) -> None:
        """Set the squared log errors of both on one record against each other."""
        self._pairs[pair] = self._pairs.get(pair, PairedSums()).plus(champion, challenger)
        _forget_oldest(self._pairs)

    def pairs(self) -> Mapping[Pair, PairedSums]:
        """Return the evidence of each pair of versions."""
        return self._pairs

    def snapshots(self, now: float) -> Iterator[SeriesSnapshot]:
        """Yield what is known of each series."""
        through = math.floor(now)
        for series, sums in self._series.items():
            yield sums.snapshot(series, through - self._window, through)

    def coverage(self, now: float) -> Coverage:
        """Return the share of predictions with a label, on both bases.

        window: labels that came / predictions made, both in the window; may pass 1 when a burst is over.
        matured: of the predictions whose label fell due in the window (by whole seconds), the share that has it.
        Neither counts a prediction that was replaced.
        """
        through = math.floor(now)
        made, _ = self._records(through - self._window, through)
        (labels,) = self._labels.totals(through - self._window, through)
        due = math.floor(now - self._label_delay) - 1  # the last second all of whose predictions are due
        matured, labelled = self._records(due - self._window, due)
        return Coverage(labels / made if made else None, labelled / matured if matured else None)

    def _records(self, after: int, through: int) -> tuple[float, float]:
        """Return the predictions of some seconds that were not replaced, and how many of them have their label."""
        buckets = self._made.buckets(after, through)
        # A prediction of another process, which counted it, can be replaced here: it is not taken from those made here.
        made = sum(max(0.0, made - replaced) for made, _, replaced in buckets)
        return made, sum(labelled for _, labelled, _ in buckets)

    def _sums(self, series: Series) -> _Sums:
        sums = self._series.get(series)
        if sums is None:
            sums = self._series[series] = _Sums(self._window)
            _forget_oldest(self._series)
        return sums


def _forget_oldest(known: dict[Any, Any]) -> None:
    if len(known) > MAX_SERIES:
        del known[next(iter(known))]

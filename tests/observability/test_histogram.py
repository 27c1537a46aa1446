"""The histogram of the request path: to Prometheus it is one of `prometheus_client`'s own."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.samples import Exemplar

from observability.histogram import Histogram

NAME, HELP = "waiting_seconds", 'How long "they" wait,\non average.'
LABELS = ("route", "method")
BOUNDS = (0.0, 0.5, 1.0, 2.5)

Observation = tuple[tuple[str, str], float]


class Seen(NamedTuple):
    """Where an observation was made."""

    ids: dict[str, str]


def registered(labels: Sequence[str] = LABELS, bounds: Sequence[float] = BOUNDS) -> tuple[CollectorRegistry, Histogram]:
    """A histogram of ours in a registry of its own."""
    registry = CollectorRegistry()
    histogram = Histogram(NAME, HELP, labels, bounds)
    registry.register(histogram)
    return registry, histogram


def ours(observations: Sequence[Observation], bounds: Sequence[float] = BOUNDS) -> str:
    """What a scrape shows."""
    registry, histogram = registered(bounds=bounds)
    for labels, value in observations:
        histogram.labels(*labels).observe(value)
    return generate_latest(registry).decode()


def theirs(observations: Sequence[Observation], bounds: Sequence[float] = BOUNDS) -> str:
    """What a scrape of the library's own histogram shows."""
    disable_created_metrics()  # as Telemetry does
    registry = CollectorRegistry()
    histogram = prometheus_client.Histogram(NAME, HELP, LABELS, registry=registry, buckets=bounds)
    for labels, value in observations:
        histogram.labels(*labels).observe(value)
    return generate_latest(registry).decode()


def exemplars(registry: CollectorRegistry) -> dict[str, Exemplar]:
    """The exemplars of a scrape that asked for OpenMetrics, by the bound of their bucket."""
    (family,) = parse_openmetrics(generate_openmetrics(registry).decode())
    return {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}


NASTY = st.text(st.sampled_from('ab\\"\n{},= ü😀'), max_size=4)
TRACES = st.text("0123456789abcdef", min_size=32, max_size=32)
EDGES = st.sampled_from([*BOUNDS, *(math.nextafter(bound, side) for bound in BOUNDS for side in (-9.0, 9.0))])
NUMBERS = st.one_of(EDGES, st.floats(allow_nan=False))


@given(st.lists(st.tuples(st.tuples(NASTY, NASTY), NUMBERS), max_size=30))
def test_the_exposition_is_that_of_the_library(observations: list[Observation]):
    """Buckets, their inclusive bounds, counts, sums, order and escaping of labels: the same text."""
    assert ours(observations) == theirs(observations)


@given(
    st.lists(st.floats(0, 1e12), min_size=1, max_size=8, unique=True).map(sorted),
    st.lists(st.floats(0, 1e12), max_size=10),
)
def test_bounds_of_any_size_are_written_as_the_library_writes_them(bounds: list[float], values: list[float]):
    """Go's spelling of numbers."""
    observations = [(("/predict", "POST"), value) for value in values]
    assert ours(observations, bounds) == theirs(observations, bounds)


def test_a_bound_belongs_to_the_bucket_below_it():
    """`le` is less or equal."""
    lines = ours([(("/predict", "POST"), 0.5)]).splitlines()
    buckets = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{NAME}_bucket")]
    assert buckets == ["0.0", "1.0", "1.0", "1.0", "1.0"]


def test_what_lies_above_every_bound_is_counted():
    """In +Inf, in the count and in the sum."""
    lines = ours([(("/predict", "POST"), 1000.0)]).splitlines()
    buckets = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{NAME}_bucket")]
    assert buckets == ["0.0", "0.0", "0.0", "0.0", "1.0"]
    assert [line.rpartition(" ")[2] for line in lines[-2:]] == ["1.0", "1000.0"]


def test_without_labels_there_is_one_distribution():
    """A histogram need not have labels, and shows its buckets before the first observation."""
    registry, histogram = registered(labels=())
    histogram.labels()
    assert f"{NAME}_count 0.0" in generate_latest(registry).decode()


def test_what_is_not_a_number_is_not_counted():
    """One NaN in the sum would be there for good, and its bucket a lie."""
    honest = [(("/predict", "POST"), 0.7), (("/predict", "POST"), 1.7)]
    assert ours([honest[0], (("/predict", "POST"), math.nan), honest[1]]) == ours(honest)


def test_one_set_of_labels_is_one_distribution():
    """Whoever asks for it again gets the same."""
    _, histogram = registered()
    assert histogram.labels("/predict", "POST") is histogram.labels("/predict", "POST")
    assert histogram.labels("/predict", "POST") is not histogram.labels("/predict", "GET")


def test_a_set_of_labels_that_was_removed_is_gone():
    """The others stay; removing what is not there does no harm; asked for again it begins at zero."""
    registry, histogram = registered()
    for route in ("/predict", "/feedback"):
        histogram.labels(route, "POST").observe(1.0)
    histogram.remove("/predict", "POST")
    histogram.remove("/predict", "POST")
    text = generate_latest(registry).decode()
    assert "/predict" not in text
    assert "/feedback" in text
    histogram.labels("/predict", "POST")
    assert f'{NAME}_count{{method="POST",route="/predict"}} 0.0' in generate_latest(registry).decode()


@pytest.mark.parametrize("values", [(), ("/predict",), ("/predict", "POST", "200")])
def test_a_wrong_number_of_labels_is_refused(values: tuple[str, ...]):
    """At once, not at the next scrape, and it leaves nothing behind."""
    registry, histogram = registered()
    with pytest.raises(ValueError, match=NAME):
        histogram.labels(*values)
    assert NAME + "_bucket" not in generate_latest(registry).decode()


# --- exemplars --------------------------------------------------------------------------------------------------------


def test_an_exemplar_says_where_a_value_was_seen():
    """Its ids, the value itself and the time, in the bucket of the value."""
    registry, histogram = registered()
    before = time.time()
    histogram.labels("/predict", "POST").observe(0.7, Seen({"trace_id": "4bf9", "span_id": "00f0"}))
    after = time.time()
    ((le, exemplar),) = exemplars(registry).items()
    assert (le, exemplar.labels, exemplar.value) == ("1.0", {"trace_id": "4bf9", "span_id": "00f0"}, 0.7)
    assert exemplar.timestamp is not None
    assert before - 1e-3 <= float(exemplar.timestamp) <= after + 1e-3


def test_the_plain_text_format_has_no_exemplars():
    """It knows none: a scraper would choke on them."""
    registry, histogram = registered()
    histogram.labels("/predict", "POST").observe(0.7, Seen({"trace_id": "4bf9"}))
    assert "4bf9" not in generate_latest(registry).decode()
    assert generate_latest(registry).decode() == ours([(("/predict", "POST"), 0.7)])


def test_the_newest_exemplar_of_a_bucket_stays():
    """An observation that was made nowhere in particular does not remove it."""
    registry, histogram = registered()
    distribution = histogram.labels("/predict", "POST")
    for number in range(3):
        distribution.observe(0.7, Seen({"trace_id": str(number)}))
    distribution.observe(0.8)
    distribution.observe(1000.0, Seen({"trace_id": "far"}))
    assert {le: exemplar.labels["trace_id"] for le, exemplar in exemplars(registry).items()} == {
        "1.0": "2",
        "+Inf": "far",
    }


@given(st.lists(st.tuples(st.tuples(NASTY, NASTY), st.floats(0, 1e9), TRACES), min_size=1, max_size=10))
def test_openmetrics_with_exemplars_is_valid(observations: list[tuple[tuple[str, str], float, str]]):
    """The strict parser reads back the last exemplar of every bucket, whatever characters its labels have."""
    registry, histogram = registered()
    last: dict[tuple[str, str, str], float] = {}
    for labels, value, trace in observations:
        histogram.labels(*labels).observe(value, Seen({"trace_id": trace}))
        le = next((bound for bound in BOUNDS if value <= bound), math.inf)
        last[*labels, "+Inf" if le == math.inf else str(le)] = value
    (family,) = parse_openmetrics(generate_openmetrics(registry).decode())
    read = {
        (sample.labels["route"], sample.labels["method"], sample.labels["le"]): sample.exemplar.value
        for sample in family.samples
        if sample.exemplar
    }
    assert read == last


def test_ids_are_asked_for_at_a_scrape():
    """Nothing is formatted for an observation that another one replaces."""
    asked: list[float] = []

    class Counting:
        def __init__(self, number: int) -> None:
            self.number = number

        @property
        def ids(self) -> dict[str, str]:
            asked.append(self.number)
            return {"trace_id": str(self.number)}

    registry, histogram = registered()
    for number in range(5):
        histogram.labels("/predict", "POST").observe(0.7, Counting(number))
    assert asked == []
    generate_openmetrics(registry)
    assert asked == [4]

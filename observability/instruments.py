"""Instruments made of declared metrics."""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram

from observability.signals import Metric

if TYPE_CHECKING:  # the simulator has histograms, and no room for OpenTelemetry
    from opentelemetry.metrics import CallbackT, Meter


def create_histogram(registry: CollectorRegistry, metric: Metric) -> Histogram:
    """Create a declared histogram in the registry that is scraped.

    prometheus_client's own, not OpenTelemetry's: the Prometheus exporter of OpenTelemetry shows no exemplars
    (open-telemetry/opentelemetry-python#4178), and every request touches a histogram.
    """
    labels = [name.replace(".", "_") for name in metric.attributes]
    return Histogram(metric.exposed, metric.help, labels, buckets=metric.buckets, registry=registry)


def bucket_counts(histogram: Histogram) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    """Return how many values fell into each bucket, by label values in declared order; the last has no upper bound."""
    cumulated: dict[tuple[str, ...], list[int]] = {}
    for family in histogram.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                labels = tuple(value for name, value in sample.labels.items() if name != "le")
                cumulated.setdefault(labels, [0]).append(int(sample.value))
    return {labels: tuple(upper - lower for lower, upper in pairwise(counts)) for labels, counts in cumulated.items()}


def observe(meter: "Meter", metric: Metric, callback: "CallbackT") -> None:
    """Let `callback` be asked for a declared counter or gauge at each scrape: nothing is touched in between."""
    create = {
        "counter": meter.create_observable_counter,
        "up_down_counter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }[metric.kind]
    create(metric.name, callbacks=[callback], unit=metric.unit, description=metric.help)

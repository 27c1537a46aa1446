"""Instruments made of declared metrics."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from observability.histogram import Histogram
from observability.signals import Metric

if TYPE_CHECKING:  # the simulator has histograms, and no room for OpenTelemetry
    from opentelemetry.metrics import CallbackT, Meter


def create_histogram(registry: CollectorRegistry, metric: Metric) -> Histogram:
    """Create a declared histogram in the registry that is scraped.

    Not through OpenTelemetry's meter: its SDK cleans and hashes the attributes of each measurement anew, many times the
    cost of finding a bucket, and this is the one kind of metric that every request touches.
    """
    labels = [name.replace(".", "_") for name in metric.attributes]
    histogram = Histogram(metric.exposed, metric.help, labels, metric.buckets)
    registry.register(histogram)
    return histogram


def observe(meter: "Meter", metric: Metric, callback: "CallbackT") -> None:
    """Let `callback` be asked for a declared counter or gauge at each scrape: nothing is touched in between."""
    create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
    create(metric.name, callbacks=[callback], unit=metric.unit, description=metric.help)

"""Declared and shown are the same: every metric by its name, kind and labels, in a real scrape."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from observability import signals
from tests.test_app import Service, running
from tests.test_shadow import Challenger, challenge, in_the_loop

NOT_OURS = ("process_", "target")


@pytest.fixture(scope="module")
def used(bundle: Path) -> Iterator[Service]:
    """A service that has seen everything that makes a metric move: a metric that never moves shows no series."""
    for service in running(bundle, max_pending=1):
        challenge(service, Challenger(50.0))
        service.source.poke()
        in_the_loop(service, anyio.wait_all_tasks_blocked)
        for record_id in (1, 2):
            service.predict(id=record_id)
        for record_id, kcal in ((2, 100.0), (2, 100.0), (2, 1.0), (3, 1.0)):
            service.feedback(record_id, kcal)
        yield service


def shown(service: Service) -> dict[str, Family]:
    """The families of a scrape, as the parser names them."""
    return {family.name: family for family in parse(service.client.get("/metrics").text)}


OURS = [metric for metric in signals.METRICS if metric.owner == "calsvc"]
"""The others are the simulator's: tests/streamsim/test_metrics.py."""


@pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric.exposed)
def test_a_declared_metric_is_shown_as_declared(used: Service, metric: signals.Metric):
    """Name, kind, help and labels of the exposition are those of the declaration."""
    family = shown(used)[metric.exposed.removesuffix("_total")]
    kind = "gauge" if metric.kind == "up_down_counter" else metric.kind
    assert (family.type, family.documentation) == (kind, metric.help)
    labels = {frozenset(set(sample.labels) - {"le"}) for sample in family.samples}
    assert labels == {frozenset(name.replace(".", "_") for name in metric.attributes)}


@pytest.mark.parametrize("metric", [*signals.METRICS, *signals.STANDARD], ids=lambda metric: metric.exposed)
def test_an_exposed_name_ends_with_its_unit(metric: signals.Metric):
    """As Prometheus has it: in base units, a counter's total behind them."""
    unit = {"s": "_seconds", "By": "_bytes", "kcal": "_kcal"}.get(metric.unit, "")
    assert metric.exposed.removesuffix("_total").endswith(unit)
    assert metric.exposed.endswith("_total") == (metric.kind == "counter")


def test_nothing_is_shown_that_was_not_declared(used: Service):
    """A name is born in signals.py or not at all."""
    declared = {metric.exposed.removesuffix("_total") for metric in OURS}
    assert {name for name in shown(used) if not name.startswith(NOT_OURS)} <= declared


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
@pytest.mark.parametrize("status", ["200", "500", "503"])
def test_the_first_answer_of_a_kind_is_seen_as_an_increase(bundle: Path, path: str, status: str):
    """Its series stands at 0 from the start: what begins at 1 has not increased, as far as Prometheus knows."""
    fresh = Service(bundle)
    error = status if status >= "500" else ""
    labels = {"http_route": path, "http_request_method": "POST", "http_response_status_code": status}
    labels |= {"url_scheme": "http", "error_type": error}
    families = parse(generate_latest(fresh.telemetry.registry).decode())
    (family,) = [each for each in families if each.name == signals.REQUEST_DURATION.exposed]
    fresh.telemetry.shutdown()
    assert [s.value for s in family.samples if s.name.endswith("_count") and s.labels == labels] == [0]


def test_process_metrics_are_shown(used: Service):
    """The names that every dashboard knows."""
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= set(shown(used))


def test_openmetrics_parses_strictly(used: Service):
    """The stricter format is valid too."""
    answer = used.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    names = {family.name for family in parse_openmetrics(answer.text)}
    assert "calsvc_quality_rmsle" in names


def test_histograms_have_the_declared_buckets(used: Service):
    """Latency is resolved from half a millisecond on, lag up to the retention."""
    families = shown(used)
    for metric in (metric for metric in OURS if metric.kind == "histogram"):
        bounds = {float(sample.labels["le"]) for sample in families[metric.exposed].samples if "le" in sample.labels}
        assert bounds == {*metric.buckets, float("inf")}
    assert signals.REQUEST_DURATION.buckets[0] == 0.0005
    assert signals.FEEDBACK_LAG.buckets[-1] == 3600

"""Every query of every dashboard, asked of a real Prometheus after a burst with feedback."""

import math
import re

import pytest

from observability.dashboards import Asked, queries
from observability.dashboards.boards import SAMPLE_VALUES
from observability.signals import REQUEST_DURATION, SIM_REQUEST_DURATION, Metric
from tests.live.conftest import Observed
from tests.needs import needs

pytestmark = needs("prometheus")

VALUES = {**SAMPLE_VALUES, "__rate_interval": "5m"}
"""As far back as the rules look: the burst may be a minute ago."""


@pytest.mark.parametrize("asked", list(queries(VALUES)), ids=lambda asked: f"{asked.dashboard}: {asked.panel}")
def test_a_query_has_an_answer(observed: Observed, asked: Asked):
    """None errs, none is empty unless it is declared why, each value is a number, each name in a legend is there."""
    samples = observed.prometheus.query(asked.expr)
    assert samples or asked.may_be_empty
    assert all(math.isfinite(sample.value) for sample in samples)
    for label in re.findall(r"\{\{(\w+)\}\}", asked.legend):
        assert all(label in sample.labels for sample in samples)


@pytest.mark.parametrize("metric", [REQUEST_DURATION, SIM_REQUEST_DURATION], ids=lambda metric: metric.owner)
def test_the_dots_on_the_latency_lead_to_traces(observed: Observed, metric: Metric):
    """Exemplars with a trace id of 32 digits have arrived in Prometheus, of the service and of the simulator."""
    found = observed.prometheus.exemplars(f"{metric.exposed}_bucket{{job='{metric.owner}'}}")
    assert found
    assert all(re.fullmatch(r"[0-9a-f]{32}", exemplar["labels"]["trace_id"]) for exemplar in found)

"""A real service, watched by a real Prometheus with this repository's rules: each query is asked, each figure is so."""

import math
import re
from typing import Any

import pytest
import yaml

from tests.live.conftest import BURST, Observed
from tests.live.prometheus import JOB, RULES, SIMULATOR
from tests.needs import needs

pytestmark = needs("prometheus")

NEEDS_HISTORY = "counts predictions made more than five minutes ago, and the test is shorter (tests/rules has it)"
EMPTY = {
    ("calsvc:coverage:5m", "matured"): NEEDS_HISTORY,
    ("calsvc:coverage:30m", "matured"): NEEDS_HISTORY,
}
"""What has no answer after the burst, by name and basis, and why."""
SELECTOR = re.compile(r'(?<!["\w])(?:up\b|(?:calsvc[:_]|http_server_|process_|streamsim_)[a-z0-9_:]+)(?:\{[^}]*\})?')


def _rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def _name(rule: dict[str, Any]) -> str:
    labels = rule.get("labels", {})
    return " ".join([rule.get("alert") or rule["record"], *(labels[key] for key in sorted(labels))])


ALL = _rules()
RECORDS = [rule for rule in ALL if "record" in rule]
SELECTORS = sorted({selector for rule in ALL for selector in SELECTOR.findall(rule["expr"])})


def value(observed: Observed, expression: str) -> float:
    """The one value of an expression."""
    (sample,) = observed.prometheus.query(expression)
    return sample.value


def test_the_targets_are_up(observed: Observed):
    """One replica, under the job's name that the rules rely on, the simulator under its own, and Prometheus."""
    up = {sample.labels["job"]: sample.value for sample in observed.prometheus.query("up")}
    assert up == {JOB: 1, SIMULATOR: 1, "prometheus": 1}


def test_the_simulator_has_sent_what_the_service_has_answered(observed: Observed):
    """Predictions and truths: what Prometheus has from the one is what the other shows."""
    shown = observed.streamed_to.call("/metrics")[2].decode()
    (answered,) = re.findall(r'^calsvc_predictions_total\{.*role="champion".*\} (\S+)$', shown, re.MULTILINE)
    (matched,) = re.findall(r'^calsvc_feedback_total\{.*outcome="matched".*\} (\S+)$', shown, re.MULTILINE)
    assert value(observed, 'streamsim_requests_total{call="predict", result="ok"}') == float(answered) == BURST
    assert value(observed, 'streamsim_feedback_delivered_total{status="matched"}') == float(matched) == BURST


@pytest.mark.parametrize("rule", ALL, ids=_name)
def test_every_expression_is_evaluated(observed: Observed, rule: dict[str, Any]):
    """A recording rule has a value, unless it says why not; an alert's may have none, but no error either."""
    samples = observed.prometheus.query(rule["expr"])
    if "record" in rule:
        declared_empty = (rule["record"], rule.get("labels", {}).get("basis", "")) in EMPTY
        assert bool(samples) is not declared_empty
        assert not any(math.isnan(sample.value) for sample in samples)


@pytest.mark.parametrize("rule", RECORDS, ids=_name)
def test_every_recording_rule_is_recorded(observed: Observed, rule: dict[str, Any]):
    """Under its name and labels, by Prometheus itself."""
    labels = ", ".join(f'{name}="{text}"' for name, text in rule.get("labels", {}).items())
    declared_empty = (rule["record"], rule.get("labels", {}).get("basis", "")) in EMPTY
    assert bool(observed.prometheus.query(f"{rule['record']}{{{labels}}}")) is not declared_empty


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_finds_something(observed: Observed, selector: str):
    """A name or a label that is misspelled in an alert would never fire, and nobody would know."""
    declared_empty = any(name in selector and basis in selector for name, basis in EMPTY)
    assert bool(observed.prometheus.query(f"last_over_time({selector}[5m])")) is not declared_empty


def test_all_rules_are_healthy(observed: Observed):
    """Loaded, evaluated, healthy: all of them."""
    loaded = observed.prometheus.rules()
    assert len(loaded) == len(ALL)
    assert {rule["name"]: rule.get("lastError") for rule in loaded if rule["health"] != "ok"} == {}


def test_the_errors_are_those_computed_offline(observed: Observed):
    """RMSLE and MAE of the rules, of what was sent and answered, by the textbook; so says the service's own gauge."""
    champion = '{role="champion"}'
    assert value(observed, f"calsvc:rmsle:5m{champion}") == pytest.approx(observed.sent.rmsle, rel=1e-6)
    assert value(observed, f"calsvc:mae_kcal:5m{champion}") == pytest.approx(observed.sent.mae_kcal, rel=1e-6)
    assert value(observed, f"calsvc_quality_rmsle{champion}") == pytest.approx(observed.sent.rmsle, rel=1e-6)
    assert value(observed, f"calsvc_quality_matched_total{champion}") == len(observed.sent.judged)


def test_coverage_is_labels_by_predictions(observed: Observed):
    """The crowd that was let in got no labels."""
    share = len(observed.sent.judged) / observed.sent.predictions
    assert value(observed, 'calsvc:coverage:5m{basis="window"}') == pytest.approx(share, rel=1e-6)


def test_refusals_are_errors_and_mistakes_of_clients_are_not(observed: Observed):
    """Those who were refused, among all who asked /predict; of feedback none were."""
    assert value(observed, 'calsvc:error_ratio:5m{http_route="/predict"}') > 0
    assert value(observed, 'calsvc:error_ratio:5m{http_route="/feedback"}') == 0
    refused = 'http_server_request_duration_seconds_count{http_route="/predict", http_response_status_code="503"}'
    assert value(observed, refused) == observed.sent.refused


def test_quantiles_are_in_order(observed: Observed):
    """p50 <= p95 <= p99, for each route."""
    for route in ("/predict", "/feedback"):
        asked = [f'calsvc:latency_seconds:5m{{http_route="{route}", quantile="{q}"}}' for q in (0.5, 0.95, 0.99)]
        quantiles = [value(observed, each) for each in asked]
        assert quantiles == sorted(quantiles)
        assert quantiles[0] > 0


def test_spans_that_nobody_takes_are_counted(observed: Observed):
    """The number behind the alert rises, and says why."""
    lost = 'sum by (reason) (increase(calsvc_spans_dropped_total{reason="undelivered"}[15m])) > 0'
    (sample,) = observed.prometheus.wait_for("a dropped span", lambda: observed.prometheus.query(lost))
    assert sample.labels == {"reason": "undelivered"}


@pytest.mark.parametrize(("route", "status"), [("/predict", "200"), ("/feedback", "200"), ("/feedback", "404")])
def test_latencies_lead_to_traces(observed: Observed, route: str, status: str):
    """Exemplars are scraped, stored and found, with the ids of trace and span."""
    labels = f'http_route="{route}", http_response_status_code="{status}"'
    exemplars = observed.prometheus.exemplars(f"http_server_request_duration_seconds_bucket{{{labels}}}")
    assert exemplars
    for exemplar in exemplars:
        assert re.fullmatch("[0-9a-f]{32}", exemplar["labels"]["trace_id"])
        assert re.fullmatch("[0-9a-f]{16}", exemplar["labels"]["span_id"])

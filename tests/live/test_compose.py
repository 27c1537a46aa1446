"""Many containers at once, as `just up simulator observability mlflow replicas` starts them, with real traffic.

Without Grafana and Jaeger, for which there is no package to make a stand-in of.
"""

import json
import math
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from deploy.compose.stack import LAYERS
from observability.dashboards import Asked, queries
from tests.conftest import Workshop
from tests.http.test_schema import WORKOUT
from tests.live.containers import Stack, call, demand_images, mounted, running_stack, wait_for
from tests.live.images import DEFAULTS, OTHERS, TARGETS, ours
from tests.live.test_dashboards import VALUES
from tests.needs import needs
from tests.service_process import PATIENCE

pytestmark = needs("docker")
SERVICES = ("calsvc", "streamsim", "prometheus", "mlflow", "valkey", "proxy", "collector", "pyroscope")
REPLICAS = 2
FAILED = 'sum(streamsim_requests_total{call="predict", result!="ok"}) or vector(0)'
"""Records without a prediction. A truth may be told to come again (docs/store.md), and does."""
UNKNOWN = 'sum(calsvc_feedback_total{outcome="unknown"}) or vector(0)'
"""Truths whose prediction nobody remembers."""


@pytest.fixture(scope="module")
def everything(workshop: Workshop) -> Iterator[Stack]:
    """All layers; bursts of 20 a second with their truth two seconds later. Up means that all of them are well."""
    demand_images("python:3.11-slim-bookworm", *(DEFAULTS[name] for name in OTHERS))
    for target in TARGETS:
        ours(target)
    environ = mounted(workshop) | {
        "CALSVC_CPUS": "0.5",
        "CALSVC_REPLICAS": str(REPLICAS),
        "STREAM_RPS": "50",
        "STREAM_ON": "3",
        "STREAM_OFF": "2",
        "STREAM_FEEDBACK_DELAY": "2",
    }
    with running_stack("all", LAYERS, environ, *SERVICES) as stack:
        wait_for("truth that was joined", lambda: value(stack, "sum(calsvc_quality_matched_total)") > 200)
        yield stack


def asked(stack: Stack, expression: str) -> list[dict[str, Any]]:
    """Evaluate PromQL now."""
    query = urllib.parse.urlencode({"query": expression})
    url = f"{stack.url('PROMETHEUS_PUBLISHED')}/api/v1/query?{query}"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - always http://127.0.0.1
        data = json.load(answer)["data"]
    scalar = data["resultType"] == "scalar"
    found: list[dict[str, Any]] = [{"metric": {}, "value": data["result"]}] if scalar else data["result"]
    return found


def value(stack: Stack, expression: str) -> float:
    """The one value of an expression; 0 where there is none yet."""
    found = asked(stack, expression)
    return float(found[0]["value"][1]) if found else 0.0


def test_replicas_share_the_load_and_the_truth(everything: Stack):
    """Prometheus finds both by their name; both have predicted, and what one predicted another one joins."""
    assert value(everything, 'count(up{job="calsvc"} == 1)') == REPLICAS
    assert value(everything, "count(calsvc_predictions_total > 0)") == REPLICAS
    assert value(everything, UNKNOWN) == 0
    assert value(everything, FAILED) == 0
    assert everything.run("valkey", "valkey-cli", "config", "get", "appendonly").split() == ["appendonly", "yes"]


def test_calsvc_follows_the_champion_that_was_made_on_the_way_up(everything: Stack):
    """Trained, registered and promoted by the one-shot service; every replica serves it."""
    (once,) = everything.inspect("champion")
    assert (once["State"]["Status"], once["State"]["ExitCode"]) == ("exited", 0)
    model = call(f"{everything.url()}/info")[1]["model"]
    assert model["alias"] == "champion"
    version = call(
        f"{everything.url('MLFLOW_PUBLISHED')}/api/2.0/mlflow/registered-models/alias?name=calories&alias=champion"
    )[1]["model_version"]
    assert version["run_id"] == model["mlflow_run_id"]
    again = everything.compose("run", "--rm", "--no-deps", "-T", "champion")
    assert "nothing to do" in again.stdout


def test_everything_is_contained(everything: Stack):
    """No root, no capability, no writable root, loopback only: as the engine has it, whatever the files say."""
    for service in (*SERVICES, "champion"):
        for container in everything.inspect(service):
            host = container["HostConfig"]
            assert re.fullmatch(r"[1-9]\d*(:\d+)?", container["Config"]["User"]), service
            assert host["ReadonlyRootfs"], service
            assert host["CapDrop"] == ["ALL"], service
            assert "no-new-privileges:true" in host["SecurityOpt"], service
            assert host["NanoCpus"] > 0, service
            assert host["Memory"] > 0, service
            bound = [each for ports in container["NetworkSettings"]["Ports"].values() for each in ports or []]
            assert {each["HostIp"] for each in bound} <= {"127.0.0.1"}, service


def test_every_query_of_the_dashboards_has_an_answer(everything: Stack):
    """None errs; each has finite numbers, unless it is declared why a service that is well has none."""

    def is_answered(one: Asked) -> bool:
        samples = asked(everything, one.expr)
        return bool(samples or one.may_be_empty) and all(math.isfinite(float(each["value"][1])) for each in samples)

    for one in queries(VALUES):  # a rule is evaluated every quarter of a minute
        wait_for(f"{one.dashboard}: {one.panel}", partial(is_answered, one), patience=60)


def test_spans_and_profiles_arrive(everything: Stack):
    """The collector has taken spans of service and simulator, Pyroscope knows the service."""
    spans = "sum(otelcol_receiver_accepted_spans_total) or sum(otelcol_receiver_accepted_spans) or vector(0)"
    wait_for("spans", lambda: value(everything, spans) > 0)
    assert value(everything, "sum(calsvc_spans_dropped_total) or vector(0)") == 0
    url = f"{everything.url('PYROSCOPE_PUBLISHED')}/querier.v1.QuerierService/LabelValues"
    wait_for("profiles", lambda: "calsvc" in call(url, {"name": "service_name"})[1].get("names", []))


def test_a_replica_that_leaves_is_not_missed(everything: Stack):
    """`--scale` down and up again: the proxy finds who is there, no record fails."""
    everything.compose("up", "--detach", "--no-build", "--no-recreate", "--scale", "calsvc=1", "calsvc")
    assert len(everything.inspect("calsvc")) == 1
    for each in range(50):
        assert call(f"{everything.url()}/predict", WORKOUT | {"id": f"scaled {each}"})[0] == 200
    everything.compose("up", "--detach", "--no-build", "--no-recreate", "--scale", "calsvc=3", "--wait", "calsvc")
    wait_for("three replicas", lambda: value(everything, 'count(up{job="calsvc"} == 1)') == 3)
    assert value(everything, FAILED) == 0
    assert value(everything, UNKNOWN) == 0


def test_down_leaves_nothing(everything: Stack):
    """The last test of this file: containers, networks and, with `volumes`, what they have stored."""
    assert everything.left()
    everything.down()
    assert everything.left() == ""

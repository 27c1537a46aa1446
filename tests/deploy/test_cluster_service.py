"""The service in the cluster: told what it knows, asked what it answers, given the time that it may take."""

import re
from pathlib import Path
from typing import Any

import pytest

from calsvc.feedback.valkey import LAST_WORDS
from calsvc.http.openapi import document
from calsvc.server import CLOSE_TIMEOUT
from calsvc.settings import Settings
from observability.otel_environment import HONOURED, check, span_exporters
from observability.profiles import SHUTDOWN_TIMEOUT
from observability.tracing import SHUTDOWN_TIMEOUT as SPANS_TIMEOUT
from streamsim.cli import parser
from tests.deploy.cluster import (
    OVERLAYS,
    composed,
    data_of,
    environment_of,
    objects_of,
    of_kind,
    pods_of,
    probes,
)
from tests.needs import needs
from tests.service_process import ROOT

pytestmark = needs("kustomize")

COMPOSE = ROOT / "deploy" / "compose"
SETTINGS = ROOT / "deploy" / "settings"
STACK = ROOT / "observability" / "stack"
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def lines_of(file: Path) -> dict[str, str]:
    """The variables of an .env file."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def told(objects: Any, name: str) -> dict[str, str]:
    """What the first container of some pods finds in its environment, of what the manifests know."""
    environment = environment_of(objects, pods_of(objects)[name].containers[0])
    return {key: value for key, value in environment.items() if value is not None}


def known() -> set[str]:
    """Every variable that the service reads."""
    return set(Settings.variables()) | HONOURED.keys()


EXPORT_TIMEOUT = 10
"""Seconds: OpenTelemetry's default of OTEL_EXPORTER_OTLP_TIMEOUT."""
THREADS = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}


@every_overlay
def test_the_service_is_told_what_it_knows(overlay: str):
    """Every variable is a setting, and its value one that the service accepts."""
    objects = objects_of(overlay)
    environment = environment_of(objects, pods_of(objects)["calsvc"].containers[0])
    assert set(environment) - known() == THREADS
    settings = Settings.from_env(told(objects, "calsvc"))
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)  # noqa: S104  what it is told
    assert settings.bearer is None
    assert check(told(objects, "calsvc")) == []
    assert len(span_exporters(told(objects, "calsvc"))) == 1


def test_a_replica_that_follows_the_registry_is_told_where_it_is(tmp_path: Path):
    """And which alias; the folder for copies is one that it may write."""
    settings = Settings.from_env(told(composed(tmp_path, "champion", base="minikube"), "calsvc"))
    assert str(settings.model) == "models:/calories@champion"
    assert settings.tracking_uri.get_secret_value() == "http://mlflow:5000"


@every_overlay
def test_settings_are_those_of_compose(overlay: str):
    """One file for both: all that it says arrives, unchanged, and compose reads the same one."""
    for name in ("calsvc", "streamsim"):
        shared = lines_of(SETTINGS / f"{name}.env")
        assert shared
        assert shared.items() <= data_of(objects_of(overlay), f"{name}-settings").items()
        files = list(COMPOSE.glob("*.yaml"))
        assert not files or any(f"../settings/{name}.env" in file.read_text(encoding="utf-8") for file in files)


@every_overlay
def test_images_are_pinned_and_those_of_compose(overlay: str):
    """Each by its tag; ours, with the tag that `just k8s-up` loads, the others as deploy/compose/.env says."""
    images = {each["image"] for owner in pods_of(objects_of(overlay)).values() for each in owner.containers}
    ours = {image for image in images if image.startswith("calsvc")}
    assert ours == {"calsvc:dev", "calsvc-streamsim:dev", "calsvc-training:dev"}
    pinned = {value for key, value in lines_of(COMPOSE / ".env").items() if key.endswith("_IMAGE")}
    assert images - ours <= pinned
    assert all(re.fullmatch(r"[^:@]+:v?\d[^:@]*", image) for image in images - ours)


@every_overlay
def test_probes_ask_for_what_the_service_answers(overlay: str):
    """At a port that it has; the start and traffic by readiness, a restart by liveness alone."""
    pods = pods_of(objects_of(overlay))["calsvc"]
    (calsvc,) = pods.containers
    paths = document(frozenset({"/livez", "/readyz"}), False)["paths"]
    asked = {kind: probe["httpGet"]["path"] for kind, probe in probes(calsvc)}
    assert asked == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert all("get" in paths[path] for path in asked.values())


@every_overlay
def test_every_probe_asks_at_a_port_that_there_is(overlay: str):
    """Of all that stays; and whoever waits for Valkey's word runs what is in its image."""
    for name, pods in pods_of(objects_of(overlay)).items():
        for container in pods.containers:
            found = dict(probes(container))
            assert pods.kind == "CronJob" or "readinessProbe" in found, name
            for probe in found.values():
                about = probe.get("httpGet") or probe.get("tcpSocket")
                assert about["port"] in pods.ports if about else probe["exec"]["command"][0] == "sh"
                assert probe.get("timeoutSeconds", 1) > 1


@every_overlay
def test_a_replica_has_longer_to_leave_than_it_can_take(overlay: str):
    """What precedes SIGTERM, the drain, requests in flight, and the last words to store, collector and Pyroscope."""
    objects = objects_of(overlay)
    pods = pods_of(objects)["calsvc"]
    before = pods.containers[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = Settings.from_env(told(objects, "calsvc")).drain_delay
    spans = SPANS_TIMEOUT + EXPORT_TIMEOUT
    takes = before + drain + CLOSE_TIMEOUT + LAST_WORDS + spans + SHUTDOWN_TIMEOUT
    assert pods.spec["terminationGracePeriodSeconds"] >= takes + 5


@every_overlay
def test_a_drained_replica_is_out_of_the_way_before_it_closes_its_port(overlay: str):
    """Readiness is asked and found missing well within the drain delay."""
    objects = objects_of(overlay)
    readiness = dict(probes(pods_of(objects)["calsvc"].containers[0]))["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert noticed < Settings.from_env(told(objects, "calsvc")).drain_delay


@every_overlay
def test_a_rollout_takes_nobody_away_before_another_is_there(overlay: str):
    """Unless all depends on one file."""
    strategy = of_kind(objects_of(overlay), "Deployment")["calsvc"]["spec"]["strategy"]
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert strategy == ({"type": "Recreate"} if overlay == "dev" else surge)


@every_overlay
def test_a_node_can_be_drained_with_a_single_replica(overlay: str):
    """One may be away, however many there are."""
    budgets = of_kind(objects_of(overlay), "PodDisruptionBudget")
    assert "calsvc" in budgets
    for budget in budgets.values():
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]


@every_overlay
def test_the_simulator_takes_its_command_line(overlay: str):
    """It streams on for days, and goes on with what it owes after a restart, from its default journal on a volume."""
    pods = pods_of(objects_of(overlay))["streamsim"]
    (container,) = pods.containers
    options = parser().parse_args(container["args"])
    assert (options.command, options.url, options.resume) == ("stream", "http://calsvc:8000", True)
    assert options.duration > 10 * 86_400
    # /srv/calsvc/data, where the defaults lead, is /var/lib/calsvc in the image
    (journal,) = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "journal"]
    assert journal == f"/var/lib/calsvc/{options.journal.parent.relative_to('data')}"
    assert not str(options.data.relative_to("data")).startswith(options.journal.parent.name)
    # What it owes outlives its pod: a node that is drained, another image.
    (volume,) = [each for each in pods.spec["volumes"] if each["name"] == "journal"]
    assert "persistentVolumeClaim" in volume


def test_the_autoscaler_goes_up_at_once_and_down_after_five_minutes(tmp_path: Path):
    """By CPU; and by requests in flight with the same patience."""
    for component, kind in (("autoscale", "Resource"), ("autoscale-in-flight", "External")):
        (scaler,) = of_kind(composed(tmp_path, "valkey", component), "HorizontalPodAutoscaler").values()
        assert [metric["type"] for metric in scaler["spec"]["metrics"]] == [kind]
        behaviour = scaler["spec"]["behavior"]
        assert behaviour["scaleUp"]["stabilizationWindowSeconds"] == 0
        assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == 300
        assert 1 <= scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]

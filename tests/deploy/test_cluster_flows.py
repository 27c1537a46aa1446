"""Who may call whom in the cluster: exactly those who have to."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.cluster import (
    NAME,
    OVERLAYS,
    Flow,
    composed,
    environment_of,
    flows,
    matches,
    objects_of,
    of_kind,
    pods_of,
)
from tests.needs import needs
from tests.service_process import ROOT

pytestmark = needs("kustomize")

ALWAYS = {
    Flow("streamsim", "proxy", 8080),
    Flow("proxy", "calsvc", 8000),
    Flow("prometheus", "proxy", 8404),
    Flow("calsvc", "collector", 4318),
    Flow("streamsim", "collector", 4318),
    Flow("collector", "jaeger", 4318),
    Flow("calsvc", "pyroscope", 4040),
    Flow("prometheus", "calsvc", 8000),
    Flow("prometheus", "streamsim", 9464),
    Flow("prometheus", "collector", 8888),
    Flow("grafana", "prometheus", 9090),
    Flow("grafana", "jaeger", 16686),
    Flow("grafana", "pyroscope", 4040),
    Flow("train", "mlflow", 5000),
}
MANY = ALWAYS | {Flow("calsvc", "valkey", 6379)}
TO_MLFLOW = Flow("calsvc", "mlflow", 5000)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def test_the_flows_of_dev_are_these():
    """All of them, and no other, in both directions."""
    assert flows(objects_of("dev")) == ALWAYS


def test_the_flows_of_minikube_are_these():
    """And Valkey, for the replicas alone."""
    assert flows(objects_of("minikube")) == MANY


def test_replicas_that_follow_the_registry_may_ask_it(tmp_path: Path):
    """Only then."""
    assert flows(composed(tmp_path, "champion", base="minikube")) == MANY | {TO_MLFLOW}


@every_overlay
def test_without_a_flow_nobody_talks_to_anybody(overlay: str):
    """One policy takes everything from every pod, whatever comes later."""
    objects = objects_of(overlay)
    deny = of_kind(objects, "NetworkPolicy")["default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    only = [each for each in objects if each["kind"] != "NetworkPolicy" or each["metadata"]["name"] == "default-deny"]
    assert flows(only) == set()
    assert len(flows([each for each in objects if each["kind"] != "NetworkPolicy"])) > len(MANY)  # it would see more


@every_overlay
def test_a_flow_is_named_for_its_ends(overlay: str):
    """`a-to-b` is about a's calls, `b-from-a` about those that b gets; each names pods that there are."""
    objects = objects_of(overlay)
    pods = pods_of(objects)
    for name, policy in of_kind(objects, "NetworkPolicy").items():
        spec = policy["spec"]
        if name in {"default-deny", "all-to-dns", "prometheus-to-api-server"}:
            continue
        here, way, there = name.partition("-to-") if "-to-" in name else name.partition("-from-")
        direction, key = ("Egress", "to") if way == "-to-" else ("Ingress", "from")
        assert spec["policyTypes"] == [direction]
        ((peer,),) = [rule[key] for rule in spec[direction.lower()]]
        assert matches(spec["podSelector"], pods[here].labels)
        assert matches(peer["podSelector"], pods[there].labels)
        assert {spec["podSelector"]["matchLabels"][NAME], peer["podSelector"]["matchLabels"][NAME]} == {here, there}


@every_overlay
def test_all_may_ask_for_names_and_of_the_clusters_own_dns_alone(overlay: str):
    """Over UDP, and over TCP for long answers."""
    dns = of_kind(objects_of(overlay), "NetworkPolicy")["all-to-dns"]["spec"]
    assert (dns["podSelector"], dns["policyTypes"]) == ({}, ["Egress"])
    ((rule,), ((peer,),)) = (dns["egress"], [rule["to"] for rule in dns["egress"]])
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    assert peer["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}


@every_overlay
def test_the_api_server_is_prometheus_business_alone(overlay: str):
    """Nobody else may call what is no pod; and it may ask which pods there are, in its namespace."""
    objects = objects_of(overlay)
    anywhere = {
        name
        for name, policy in of_kind(objects, "NetworkPolicy").items()
        if any("to" not in rule for rule in policy["spec"].get("egress", []))
    }
    assert anywhere == {"prometheus-to-api-server"}
    (role,) = of_kind(objects, "Role").values()
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    assert of_kind(objects, "ClusterRole", "ClusterRoleBinding") == {}
    (binding,) = of_kind(objects, "RoleBinding").values()
    assert [subject["name"] for subject in binding["subjects"]] == ["prometheus"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


@every_overlay
def test_whatever_a_pod_is_told_to_call_it_may_call(overlay: str):
    """Every address in an environment or an argument is that of a Service, at a port of it, and a flow leads there."""
    objects = objects_of(overlay)
    services, allowed = of_kind(objects, "Service"), flows(objects)
    seen = set()
    for name, pods in pods_of(objects).items():
        for container in pods.containers:
            told = [*environment_of(objects, container).values(), *container.get("args", [])]
            for url in (urlsplit(text) for text in told if text and text.startswith(("http://", "redis://"))):
                host = str(url.hostname)
                if host == "loki":  # optional: docs/dashboards.md
                    continue
                assert Flow(name, *behind(objects, services[host], url.port)) in allowed, (name, url)
                seen.add((name, host))
    assert {("calsvc", "collector"), ("streamsim", "calsvc"), ("grafana", "prometheus"), ("train", "mlflow")} <= seen


def behind(objects: Any, service: Any, asked: int | None) -> tuple[str, int]:
    """The pods behind a Service, and their port for one of its own."""
    ((name, pods),) = [
        (name, pods)
        for name, pods in pods_of(objects).items()
        if service["spec"]["selector"].items() <= pods.labels.items()
    ]
    (target,) = [port["targetPort"] for port in service["spec"]["ports"] if port["port"] == asked]
    return name, pods.ports[target]


@every_overlay
def test_prometheus_finds_the_pods_that_it_may_scrape(overlay: str):
    """Each of its jobs means pods that say at which of their ports; and it scrapes all that a flow lets it."""
    objects = objects_of(overlay)
    config = yaml.safe_load((ROOT / "observability/stack/cluster/prometheus.yaml").read_text(encoding="utf-8"))
    labels = [
        sd["selectors"][0]["label"] for job in config["scrape_configs"] for sd in job.get("kubernetes_sd_configs", [])
    ]
    scraped = set()
    for label, job in zip(labels, (job["job_name"] for job in config["scrape_configs"]), strict=False):
        assert label == f"{NAME}={job}"
        pods = pods_of(objects)[job]
        port = int(pods.annotations["prometheus.io/port"])
        assert pods.labels[NAME] == job
        assert port in pods.ports.values()
        scraped.add(Flow("prometheus", job, port))
    assert scraped == {flow for flow in flows(objects) if flow.source == "prometheus"}


def test_the_adapter_may_ask_prometheus_from_wherever_it_lives(tmp_path: Path):
    """It is in a namespace of its own."""
    objects = composed(tmp_path, "simulator", "mlflow", "observability", "proxy", "valkey", "autoscale-in-flight")
    (rule,) = of_kind(objects, "NetworkPolicy")["prometheus-from-adapter"]["spec"]["ingress"]
    assert rule["from"] == [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {NAME: "prometheus-adapter"}}},
    ]
    assert [port["port"] for port in rule["ports"]] == [9090]
    assert flows(objects) == MANY

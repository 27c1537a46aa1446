"""Those around the service in the cluster: configured as on one PC, and as the service needs them."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from calsvc.settings import Settings
from tests.deploy.cluster import KUSTOMIZE, NAME, OVERLAYS, composed, data_of, objects_of, of_kind, pods_of
from tests.needs import needed, needs
from tests.service_process import ROOT

pytestmark = needs("kustomize")

IN_FLIGHT = "haproxy_backend_current_sessions"
STACK = ROOT / "observability" / "stack"
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def test_the_collector_is_of_the_release_that_its_configuration_is_for():
    """That which collector-builder.yaml builds: an older one does not know the names of its exporters."""
    release = yaml.safe_load((STACK / "collector-builder.yaml").read_text(encoding="utf-8"))["dist"]["version"]
    (collector,) = pods_of(objects_of("minikube"))["collector"].containers
    assert collector["image"].rpartition(":")[2] == release


def test_the_collector_is_told_what_its_configuration_asks_for():
    """Each variable is one of collector.yaml."""
    asked = set(re.findall(r"\$\{env:(\w+):-", (STACK / "collector.yaml").read_text(encoding="utf-8")))
    assert set(data_of(objects_of("minikube"), "collector-settings")) <= asked


def test_the_adapter_makes_the_metric_that_the_autoscaler_asks_for(tmp_path: Path):
    """Of one that the proxy has (tests/live asks it) about its replicas, with the labels that Prometheus gives it."""
    folder = KUSTOMIZE / "components" / "autoscale-in-flight"
    (rule,) = yaml.safe_load((folder / "adapter-values.yaml").read_text(encoding="utf-8"))["rules"]["external"]
    (scaler,) = of_kind(composed(tmp_path, "autoscale-in-flight"), "HorizontalPodAutoscaler").values()
    assert rule["name"]["as"] == scaler["spec"]["metrics"][0]["external"]["metric"]["name"]
    assert rule["seriesQuery"].partition("{")[0] == IN_FLIGHT
    assert f"{IN_FLIGHT}{{<<.LabelMatchers>>," in rule["metricsQuery"]
    shared = (ROOT / "deploy" / "proxy" / "haproxy.cfg").read_text(encoding="utf-8")
    (backend,) = re.findall(r'proxy="(\w+)"', rule["metricsQuery"])
    assert f"\n    default_backend {backend}\n" in shared
    config = yaml.safe_load((STACK / "cluster" / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = [each for each in config["scrape_configs"] if f'job="{each["job_name"]}"' in rule["seriesQuery"]]
    assert set(rule["resources"]["overrides"]) <= {each.get("target_label") for each in job["relabel_configs"]}


def without_discovery(config: Mapping[str, Any]) -> Any:
    """A configuration of Prometheus but for how it finds its targets."""
    targets = {"kubernetes_sd_configs", "file_sd_configs", "static_configs", "relabel_configs"}
    jobs = [{key: job[key] for key in job if key not in targets} for job in config["scrape_configs"]]
    return dict(config) | {"scrape_configs": jobs}


def test_prometheus_is_configured_as_on_one_pc():
    """The same jobs, rules and intervals; only targets are found in another way, and called by their pods' names."""
    everywhere, here = (
        yaml.safe_load((STACK / path / "prometheus.yaml").read_text(encoding="utf-8")) for path in ("", "cluster")
    )
    found = [job for job in here["scrape_configs"] if "kubernetes_sd_configs" in job]
    here["scrape_configs"] = [job for job in here["scrape_configs"] if job["job_name"] != "proxy"]  # nowhere else
    assert without_discovery(here) == without_discovery(everywhere)
    assert len(found) == 4
    for job in found:
        renamed = {each.get("target_label"): each.get("source_labels") for each in job["relabel_configs"]}
        assert renamed["instance"] == ["__meta_kubernetes_pod_name"]


@every_overlay
def test_prometheus_finds_its_rules_from_where_its_configuration_is(overlay: str):
    """All of them, under the folder that rule_files means from there."""
    objects = objects_of(overlay)
    pods = pods_of(objects)["prometheus"]
    (container,) = pods.containers
    mounted = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    (file,) = [Path(word.partition("=")[2]) for word in container["args"] if word.startswith("--config.file=")]
    assert file.parent == mounted["config"]
    assert set(data_of(objects, "prometheus-config")) == {file.name}
    assert mounted["rules"] == mounted["config"].parent / "rules"  # ../rules/*.yml
    rules = {each.name: each.read_text(encoding="utf-8") for each in (ROOT / "observability" / "rules").glob("*.yml")}
    assert data_of(objects, "prometheus-rules") == rules
    assert "--enable-feature=exemplar-storage" in container["args"]


@every_overlay
def test_grafana_finds_all_dashboards_where_its_provider_looks(overlay: str):
    """And datasources and providers where Grafana does."""
    objects = objects_of(overlay)
    pods = pods_of(objects)["grafana"]
    mounted = {mount["name"]: mount["mountPath"] for mount in pods.containers[0]["volumeMounts"]}
    (provider,) = yaml.safe_load(data_of(objects, "grafana-providers")["dashboards.yaml"])["providers"]
    assert mounted["dashboards"] == provider["options"]["path"]
    assert mounted["datasources"] == "/etc/grafana/provisioning/datasources"
    assert mounted["providers"] == "/etc/grafana/provisioning/dashboards"
    (volume,) = [each for each in pods.spec["volumes"] if each["name"] == "dashboards"]
    sources = [source["configMap"]["name"] for source in volume["projected"]["sources"]]
    shown = {file: text for name in sources for file, text in data_of(objects, name).items()}
    generated = (ROOT / "observability" / "generated").glob("*.json")
    assert shown == {file.name: file.read_text(encoding="utf-8") for file in generated}


@needs("haproxy")
def test_the_proxy_takes_its_configuration():
    """That of deploy/proxy, with replicas by the name of a Service that has every pod; places for all of them."""
    objects = objects_of("minikube")
    own = KUSTOMIZE / "components" / "proxy" / "replicas.cfg"
    shared = ROOT / "deploy" / "proxy" / "haproxy.cfg"
    environ = os.environ | {"CALSVC_PROXY_BIND": "127.0.0.1:8080"}
    command = [needed("haproxy"), "-c", "-f", shared, "-f", own]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert checked.returncode == 0, checked.stderr
    assert data_of(objects, "proxy-config") == {"haproxy.cfg": shared.read_text(encoding="utf-8")}
    places, name, port = re.search(r"server-template calsvc 1-(\d+) ([\w.-]+):(\d+)", own.read_text()).groups()  # type: ignore[union-attr]
    service = of_kind(objects, "Service")[name.partition(".")[0]]
    assert name == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {NAME: "calsvc"}
    assert int(port) in pods_of(objects)["calsvc"].ports.values()
    assert int(places) >= of_kind(objects, "HorizontalPodAutoscaler")["calsvc"]["spec"]["maxReplicas"]


def test_a_proxy_that_knows_no_replica_asks_the_cluster_for_one():
    """DNS is half a minute late, and a rollout is over in ten seconds: a Service hears of who is ready at once."""
    objects = objects_of("minikube")
    own = (KUSTOMIZE / "components" / "proxy" / "replicas.cfg").read_text()
    name, port = re.search(r"^ +server \S+ ([\w.-]+):(\d+) .*\bbackup$", own, re.MULTILINE).groups()  # type: ignore[union-attr]
    service = of_kind(objects, "Service")[name.partition(".")[0]]
    assert name == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert "clusterIP" not in service["spec"]
    assert "publishNotReadyAddresses" not in service["spec"]
    assert service["spec"]["selector"] == {NAME: "calsvc"}
    assert [str(each["port"]) for each in service["spec"]["ports"]] == [port]


def test_a_proxy_outlives_the_clusters_dns():
    """Whatever DNS does not answer, addresses stay: whether anybody is there is the health check's to say."""
    own = (KUSTOMIZE / "components" / "proxy" / "replicas.cfg").read_text()
    held = dict(re.findall(r"^ +hold (\w+) (\w+)", own, re.MULTILINE))
    assert {held.get(each) for each in ("timeout", "refused", "nx", "other")} == {"1h"}


def test_valkey_keeps_what_it_has_confirmed():
    """On a volume, in a file that is written every second; full, it forgets the oldest, as docs/store.md says."""
    objects = objects_of("minikube")
    (container,) = pods_of(objects)["valkey"].containers
    words = container["args"]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert (options["--appendonly"], options["--appendfsync"], options["--save"]) == ("yes", "everysec", "")
    assert options["--maxmemory-policy"] == "volatile-ttl"
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [options["--dir"]]
    assert pods_of(objects)["valkey"].spec["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "valkey"}}
    ]
    assert "volumeClaimTemplates" not in of_kind(objects, "StatefulSet")["valkey"]["spec"]  # nobody could change them


def test_the_training_is_a_template_and_in_the_right_order():
    """It runs when somebody says so: what it has registered, the gate promotes, on rows that it was not trained on."""
    (train,) = of_kind(objects_of("minikube"), "CronJob").values()
    assert train["spec"]["suspend"] is True
    pods = pods_of(objects_of("minikube"))["train"]
    assert [each["command"][-1] for each in pods.containers] == ["calsvc.training.train", "calsvc.training.promote"]
    for container in pods.containers:
        given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        assert set(given) <= set(Settings.variables())
        assert Settings.from_env(given).tracking_uri.get_secret_value() == "http://mlflow:5000"
        assert {"/var/lib/calsvc", "/tmp"} == {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108

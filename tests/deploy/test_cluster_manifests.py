"""Every overlay and component renders, is what Kubernetes accepts, and holds together."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.cluster import (
    COMPONENTS,
    NAMESPACE,
    OVERLAYS,
    composed,
    copied,
    data_of,
    environment_of,
    objects_of,
    of_kind,
    pods_of,
)
from tests.deploy.kustomize import rendered
from tests.needs import needs

pytestmark = needs("kustomize")

LATEST_APPLIED = 262_144
"""Bytes of all annotations of an object, in which `kubectl apply` keeps the whole object as it was applied."""
NEEDS = {"champion": ("mlflow",), "autoscale-in-flight": ("observability", "proxy", "valkey"), "autoscale": ("valkey",)}
VERSIONS = ("1.30", "1.33", "1.37")
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def with_component(folder: Path, component: str) -> Any:
    """The base with a component and those that it needs."""
    return composed(folder, *NEEDS.get(component, ()), component)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", ["base", *OVERLAYS])
def test_kubernetes_accepts_an_overlay(overlay: str, version: str):
    """Every object is of its schema, strictly: no field that this version of Kubernetes does not know."""
    accepted(objects_of(overlay), version)


@pytest.mark.parametrize("component", COMPONENTS)
def test_kubernetes_accepts_a_component(component: str, tmp_path: Path):
    """Each by itself, over the base, with those that it needs."""
    accepted(with_component(tmp_path, component), VERSIONS[-1])


def accepted(objects: Any, version: str) -> None:
    """Validate all objects."""
    import kubernetes_validate  # noqa: PLC0415 - it reads a schema of megabytes

    assert objects
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_what_kubernetes_does_not_know_is_noticed():
    """The validation bites: a misspelled field is an error."""
    import kubernetes_validate  # noqa: PLC0415

    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@every_overlay
def test_an_overlay_is_complete(overlay: str):
    """All in one namespace, no object twice, and everything that a pod names is there."""
    objects = objects_of(overlay)
    names = Counter((each["kind"], each["metadata"]["name"]) for each in objects)
    assert [name for name, times in names.items() if times > 1] == []
    assert {each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"} == {NAMESPACE}
    for pods in pods_of(objects).values():
        assert named(pods.spec) <= {(each["kind"], each["metadata"]["name"]) for each in objects}, pods.owner


def named(spec: Any) -> set[tuple[str, str]]:
    """Kind and name of what a pod mounts or reads."""
    kinds = {"persistentVolumeClaim": "PersistentVolumeClaim"}
    kinds |= {f"configMap{way}": "ConfigMap" for way in ("", "Ref", "KeyRef")}
    kinds |= {f"secret{way}": "Secret" for way in ("", "Ref", "KeyRef")}
    found: set[tuple[str, str]] = set()
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key in kinds and isinstance(value, dict):
                found.add((kinds[key], value.get("name") or value.get("claimName") or value["secretName"]))
            found |= named(value)
        if account := spec.get("serviceAccountName"):
            found.add(("ServiceAccount", account))
    if isinstance(spec, list):
        found = {each for part in spec for each in named(part)}
    return found


@every_overlay
def test_selectors_find_the_pods_that_they_mean(overlay: str):
    """Each owner, disruption budget and spread those of its own name; each Service those of one, at ports they have."""
    objects = objects_of(overlay)
    pods = pods_of(objects)

    def found(selector: Any) -> list[str]:
        return [name for name, each in pods.items() if selector.items() <= each.labels.items()]

    for name, each in pods.items():
        if each.selector is not None:
            assert found(each.selector) == [name]
        for spread in each.spec.get("topologySpreadConstraints", []):
            assert found(spread["labelSelector"]["matchLabels"]) == [name]
    for name, budget in of_kind(objects, "PodDisruptionBudget").items():
        assert found(budget["spec"]["selector"]["matchLabels"]) == [name]
    for service in of_kind(objects, "Service").values():
        (owner,) = found(service["spec"]["selector"])
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(pods[owner].ports)


@every_overlay
def test_volumes_that_are_mounted_are_there(overlay: str):
    """And none is there that nobody mounts."""
    for pods in pods_of(objects_of(overlay)).values():
        mounted = {mount["name"] for each in pods.containers for mount in each.get("volumeMounts", [])}
        owned = {volume["name"] for volume in pods.spec.get("volumes", [])}
        assert mounted == owned, pods.owner


@every_overlay
def test_every_object_can_be_applied(overlay: str):
    """`kubectl apply` keeps a copy of each in an annotation, which has its limit; half of it is room to grow."""
    sizes = {each["metadata"]["name"]: len(json.dumps(each).encode()) for each in objects_of(overlay)}
    assert max(sizes.values()) < LATEST_APPLIED / 2, sizes


@every_overlay
def test_no_owner_of_files_has_two_pods_at_a_time(overlay: str):
    """Whoever mounts a claim goes before its successor comes."""
    objects = objects_of(overlay)
    for name, deployment in of_kind(objects, "Deployment").items():
        claims = [
            volume for volume in pods_of(objects)[name].spec.get("volumes", []) if "persistentVolumeClaim" in volume
        ]
        if claims:
            assert deployment["spec"]["strategy"] == {"type": "Recreate"}
            assert deployment["spec"]["replicas"] == 1


@pytest.mark.parametrize(
    ("changed", "owner"),
    [
        ("observability/rules/alerts.yml", "prometheus"),
        ("observability/stack/cluster/prometheus.yaml", "prometheus"),
        ("observability/generated/quality.json", "grafana"),
        ("observability/stack/grafana/grafana.env", "grafana"),
        ("observability/stack/collector.yaml", "collector"),
        ("deploy/settings/calsvc.env", "calsvc"),
        ("deploy/settings/streamsim.env", "streamsim"),
        ("deploy/proxy/haproxy.cfg", "proxy"),
    ],
)
def test_a_change_of_a_file_replaces_the_pods_that_read_it(changed: str, owner: str, tmp_path: Path):
    """And no others: the name of a ConfigMap is made of its content."""
    folder = copied(tmp_path)
    text = (folder / changed).read_text(encoding="utf-8")
    (folder / changed).write_text(text + ("ADDED=1\n" if changed.endswith(".env") else "\n"), encoding="utf-8")
    before = pods_of(objects_of("minikube"))
    after = pods_of(tuple(yaml.safe_load_all(rendered(folder / "deploy" / "kustomize" / "minikube"))))
    assert [name for name in before if before[name].spec != after[name].spec] == [owner]


@every_overlay
def test_a_claim_and_a_generated_name_is_used(overlay: str):
    """Nothing is made that nobody reads."""
    objects = objects_of(overlay)
    used = {each for pods in pods_of(objects).values() for each in named(pods.spec)}
    made = {
        (each["kind"], each["metadata"]["name"])
        for each in objects
        if each["kind"] in {"ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount"}
    }
    assert made - used == set()


def test_the_replicas_of_an_autoscaler_are_its_own_business(tmp_path: Path):
    """It finds its Deployment, whose number of replicas no `kubectl apply` sets; without one, it is set to one."""
    for component in ("autoscale", "autoscale-in-flight"):
        objects = with_component(tmp_path, component)
        ((name, scaler),) = of_kind(objects, "HorizontalPodAutoscaler").items()
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == ("Deployment", name)
        assert "replicas" not in of_kind(objects, "Deployment")[name]["spec"]
        requests = pods_of(objects)[name].containers[0]["resources"]["requests"]
        assert "cpu" in requests  # of which a utilization is a share
    assert of_kind(objects_of("dev"), "Deployment")["calsvc"]["spec"]["replicas"] == 1
    assert of_kind(objects_of("dev"), "HorizontalPodAutoscaler") == {}


def test_two_autoscalers_would_fight_and_cannot_be_had_together(tmp_path: Path):
    """Both components name the same object."""
    with pytest.raises(ValueError, match="HorizontalPodAutoscaler"):
        composed(tmp_path, "observability", "valkey", "autoscale", "autoscale-in-flight")


def test_replicas_share_their_store(tmp_path: Path):
    """Where there may be more than one, what waits is in Valkey; else in a file on a volume."""
    for objects in (objects_of("minikube"), with_component(tmp_path, "autoscale")):
        assert data_of(objects, "calsvc-settings")["CALSVC_STORE"] == "redis://valkey:6379/0"
    dev = objects_of("dev")
    store = str(environment_of(dev, pods_of(dev)["calsvc"].containers[0])["CALSVC_STORE"])
    (volume,) = [each for each in pods_of(dev)["calsvc"].spec["volumes"] if each["name"] == "state"]
    (mount,) = [each for each in pods_of(dev)["calsvc"].containers[0]["volumeMounts"] if each["name"] == "state"]
    assert store.startswith(f"sqlite:///{mount['mountPath']}/")
    assert "persistentVolumeClaim" in volume

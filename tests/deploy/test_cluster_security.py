"""What runs in the cluster may do nothing that it does not need: the standard `restricted`, and more."""

from typing import Any

import pytest

from streamsim.cluster.job import manifest
from tests.deploy.cluster import (
    COMPONENTS,
    NAMESPACE,
    OVERLAYS,
    Pods,
    data_of,
    environment_of,
    objects_of,
    of_kind,
    pods_of,
)
from tests.needs import needs

pytestmark = needs("kustomize")

OURS = {"calsvc", "streamsim", "mlflow", "train"}
OTHERS = {"proxy", "valkey", "prometheus", "grafana", "collector", "jaeger", "pyroscope"}
ALL = [("minikube", name) for name in sorted(OURS | OTHERS)]
ALL += [("dev", name) for name in sorted((OURS | OTHERS) - {"valkey"})]
MINIKUBE = {
    "api server": 0.25,
    "calico": 0.25,
    "controllers": 0.2,
    "scheduler": 0.1,
    "etcd": 0.1,
    "dns": 0.1,
    "metrics": 0.1,
}
"""Cores that minikube's own pods ask for, Calico and metrics-server among them."""
every_pod = pytest.mark.parametrize(("overlay", "name"), ALL)


def pods(overlay: str, name: str) -> Pods:
    """Pods of an overlay."""
    return pods_of(objects_of(overlay))[name]


def test_every_pod_of_every_overlay_is_looked_at():
    """Also one that a component brings along later."""
    assert set(ALL) == {(overlay, name) for overlay in OVERLAYS for name in pods_of(objects_of(overlay))}
    assert len(COMPONENTS) == 8


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_takes_nothing_else(overlay: str):
    """The API server refuses pods that are not restricted."""
    labels = of_kind(objects_of(overlay), "Namespace")[NAMESPACE]["metadata"]["labels"]
    for mode in ("enforce", "warn", "audit"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


@every_pod
def test_a_pod_is_nobody_in_particular(overlay: str, name: str):
    """A number that is not root's, the kernel's default filter, nothing of the host."""
    spec = pods(overlay, name).spec
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["fsGroup"] == (472 if name == "grafana" else 10001)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"} <= allowed


@every_pod
def test_a_container_can_gain_nothing(overlay: str, name: str):
    """No capability, no more privileges, a root that cannot be written, and nothing that takes one of these back."""
    for container in pods(overlay, name).containers:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all("hostPort" not in port for port in container.get("ports", []))


@every_pod
def test_a_pod_has_no_token_of_the_cluster(overlay: str, name: str):
    """But Prometheus, which asks for pods; and nobody learns from its environment which services there are."""
    spec = pods(overlay, name).spec
    assert spec["automountServiceAccountToken"] is (name == "prometheus")
    assert spec["enableServiceLinks"] is False


@every_pod
def test_a_container_has_its_bounds(overlay: str, name: str):
    """CPU and memory, asked for and at most; and what it writes into memory or the node's disk is bounded, too."""
    for container in pods(overlay, name).containers:
        for kind in ("requests", "limits"):
            assert set(container["resources"][kind]) == {"cpu", "memory"}
    for volume in pods(overlay, name).spec.get("volumes", []):
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]


def cores(text: str) -> float:
    """A quantity of CPU."""
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def replicas(objects: Any, name: str) -> int:
    """How many pods an owner has; those of an autoscaler, one."""
    return int(of_kind(objects, "Deployment", "StatefulSet")[name]["spec"].get("replicas", 1))


def test_all_replicas_together_take_half_of_a_small_pc():
    """Of four threads, by their limits."""
    objects = objects_of("minikube")
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler").values()
    (calsvc,) = pods_of(objects)["calsvc"].containers
    assert scaler["spec"]["maxReplicas"] * cores(calsvc["resources"]["limits"]["cpu"]) == 4 / 2


def test_two_cores_have_room_for_everything():
    """For all replicas, one more in a rollout, and a training or a load test; Kubernetes itself takes the rest."""
    objects = objects_of("minikube")
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler").values()
    asked = {
        name: sum(cores(each["resources"]["requests"]["cpu"]) for each in owner.containers) * replicas(objects, name)
        for name, owner in pods_of(objects).items()
        if owner.kind != "CronJob"
    }
    load = manifest("load", of_kind(objects, "Deployment")["streamsim"], [], seconds=1, cpu="1")
    jobs = [*load["spec"]["template"]["spec"]["containers"], *pods_of(objects)["train"].containers]
    most = sum(asked.values()) + scaler["spec"]["maxReplicas"] * asked["calsvc"]
    most += max(cores(each["resources"]["requests"]["cpu"]) for each in jobs)
    assert most <= 2 - sum(MINIKUBE.values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_committed(overlay: str):
    """Every one is empty until somebody fills it in, and no ConfigMap has one."""
    objects = objects_of(overlay)
    assert {name.rpartition("-")[0]: each["data"] for name, each in of_kind(objects, "Secret").items()} == {
        "calsvc-secrets": {"CALSVC_TOKEN": ""},
        "grafana-admin": {"GF_SECURITY_ADMIN_PASSWORD": ""},
    }
    keys = {key for each in of_kind(objects, "ConfigMap").values() for key in each["data"]}
    assert not [key for key in keys if "PASSWORD" in key or "TOKEN" in key]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_grafana_without_a_password_has_nobody_who_could_log_in(overlay: str):
    """Whoever reaches it may look; there is no administrator, whose password everybody would know."""
    objects = objects_of(overlay)
    told: dict[str, Any] = data_of(objects, "grafana-settings")
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert (told["GF_AUTH_ANONYMOUS_ENABLED"], told["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    assert (told["GF_AUTH_BASIC_ENABLED"], told["GF_AUTH_DISABLE_LOGIN_FORM"]) == ("false", "true")
    (grafana,) = pods_of(objects)["grafana"].containers
    assert [next(iter(source)) for source in grafana["envFrom"]] == ["configMapRef", "secretRef"]  # the Secret decides


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_service_and_simulator_have_the_same_token(overlay: str):
    """One key of one Secret, whoever fills it in; nobody else gets it."""
    objects = objects_of(overlay)
    holders = {}
    for name, each in pods_of(objects).items():
        for container in each.containers:
            for entry in container.get("env", []):
                if entry["name"] == "CALSVC_TOKEN":
                    holders[name] = entry["valueFrom"]["secretKeyRef"]
            if name != "grafana":
                assert all("secretRef" not in source for source in container.get("envFrom", []))
    assert set(holders) == {"calsvc", "streamsim"}
    assert holders["calsvc"] == holders["streamsim"]
    assert "CALSVC_TOKEN" in environment_of(objects, pods_of(objects)["calsvc"].containers[0])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_published_outside_the_cluster(overlay: str):
    """The ways in are port-forwards, on 127.0.0.1."""
    objects = objects_of(overlay)
    assert of_kind(objects, "Ingress") == {}
    assert all("type" not in service["spec"] for service in of_kind(objects, "Service").values())

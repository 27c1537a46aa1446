"""What the manifests come to: objects, pods and who may call whom."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.deploy.kustomize import rendered
from tests.service_process import ROOT

KUSTOMIZE = ROOT / "deploy" / "kustomize"
OVERLAYS = ("dev", "minikube")
COMPONENTS = sorted(folder.name for folder in (KUSTOMIZE / "components").iterdir())
NAMESPACE = "calsvc"
NAME = "app.kubernetes.io/name"
Object = dict[str, Any]


@cache
def objects_of(folder: str) -> Sequence[Object]:
    """Every object that a folder of deploy/kustomize comes to."""
    return tuple(yaml.safe_load_all(rendered(KUSTOMIZE / folder)))


def composed(folder: Path, *components: str, base: str = "base") -> Sequence[Object]:
    """Every object of an overlay, written into `folder`, of `base` and components."""
    here = os.path.relpath(KUSTOMIZE, folder)
    listed = "".join(f"  - {here}/components/{name}\n" for name in components)
    text = f"namespace: {NAMESPACE}\nresources: [{here}/{base}]\n" + (f"components:\n{listed}" if listed else "")
    (folder / "kustomization.yaml").write_text(text)
    return tuple(yaml.safe_load_all(rendered(folder)))


def copied(folder: Path) -> Path:
    """Copy everything that kustomize reads."""
    for each in (ROOT / part for part in ("deploy", "observability")):
        for file in each.rglob("*"):
            if file.is_file() and file.suffix in {".yaml", ".yml", ".json", ".env", ".cfg"}:
                target = folder / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    return folder


def of_kind(objects: Sequence[Object], *kinds: str) -> dict[str, Object]:
    """The objects of some kinds, by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] in kinds}


class Pods(NamedTuple):
    """Pods that an object makes: all alike."""

    kind: str
    owner: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    selector: Mapping[str, str] | None
    """None: the owner finds them by itself."""

    @property
    def containers(self) -> Sequence[Mapping[str, Any]]:
        """All containers, those before the others too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> Mapping[str, int]:
        """Ports by name."""
        return {port["name"]: port["containerPort"] for each in self.containers for port in each.get("ports", [])}


def pods_of(objects: Sequence[Object]) -> dict[str, Pods]:
    """Everything that makes pods, by its name."""
    return {each["metadata"]["name"]: _pods(each) for each in objects if each["kind"] in _TEMPLATES}


_TEMPLATES = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}


def _pods(owner: Object) -> Pods:
    spec = owner["spec"]["jobTemplate"]["spec"] if owner["kind"] == "CronJob" else owner["spec"]
    template = spec["template"]
    about = template["metadata"]
    return Pods(
        kind=owner["kind"],
        owner=owner["metadata"]["name"],
        labels=about["labels"],
        annotations=about.get("annotations", {}),
        spec=template["spec"],
        selector=spec["selector"]["matchLabels"] if "selector" in spec else None,
    )


def data_of(objects: Sequence[Object], name: str) -> dict[str, str]:
    """The data of a ConfigMap or Secret, by its name with or without the hash at the end."""
    ((_, found),) = [
        (full, each)
        for full, each in of_kind(objects, "ConfigMap", "Secret").items()
        if full == name or full.rpartition("-")[0] == name
    ]
    return dict(found.get("data", {}))


def environment_of(objects: Sequence[Object], container: Mapping[str, Any]) -> dict[str, str | None]:
    """What a container finds in its environment; None where only the cluster knows."""
    told: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        (reference,) = source.values()
        told |= data_of(objects, reference["name"])
    for entry in container.get("env", []):
        told[entry["name"]] = entry.get("value")
    return told


class Flow(NamedTuple):
    """One party may call another at a port."""

    source: str
    destination: str
    port: int


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector of labels, an empty one too, means something with these."""
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def flows(objects: Sequence[Object]) -> set[Flow]:
    """Who may call whom at which port: of the pods in here, and where both ends let it pass."""
    pods = pods_of(objects)
    policies = list(of_kind(objects, "NetworkPolicy").values())
    ports = {port for each in pods.values() for port in each.ports.values()}
    return {
        Flow(source, destination, port)
        for source, destination, port in product(pods, pods, ports)
        if _lets(policies, "Egress", pods[source], pods[destination], port)
        and _lets(policies, "Ingress", pods[destination], pods[source], port)
    }


def _lets(policies: Sequence[Object], direction: str, of: Pods, other: Pods, port: int) -> bool:
    """Whether the policies for `of` let it call `other` (Egress), or be called by it (Ingress)."""
    here = [each["spec"] for each in policies if matches(each["spec"]["podSelector"], of.labels)]
    here = [each for each in here if direction in each["policyTypes"]]
    if not here:
        return True
    rules = [rule for each in here for rule in each.get(direction.lower(), [])]
    return any(_admits(rule, "to" if direction == "Egress" else "from", other, port) for rule in rules)


def _admits(rule: Object, key: str, other: Pods, port: int) -> bool:
    if "ports" in rule and port not in {each["port"] for each in rule["ports"]}:
        return False
    return key not in rule or any(_means(peer, other) for peer in rule[key])


def _means(peer: Object, other: Pods) -> bool:
    if "ipBlock" in peer:
        return False  # pods are not meant
    if "namespaceSelector" in peer and not matches(
        peer["namespaceSelector"], {"kubernetes.io/metadata.name": NAMESPACE}
    ):
        return False
    return matches(peer.get("podSelector", {}), other.labels)


def probes(container: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The probes of a container, by their kind."""
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        if kind in container:
            yield kind, container[kind]

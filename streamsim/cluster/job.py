"""The Job that sends the load: the simulator's own Deployment, told to do one load test and to end. Pure."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from streamsim.errors import ClusterError

COMMAND: Final = ("python", "-m", "streamsim")
CONTAINER: Final = "streamsim"
COMPONENT: Final = "app.kubernetes.io/component"
LEAVE_OUT: Final = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle")
SLOWNESS: Final = 10
"""Times its planned length that a load may take: whoever asks too much of a small cluster wants the report, too."""
PATIENCE_S: Final = 300
"""Seconds that a Job has beside its load: to be scheduled, to start, to deliver its last truths."""
LONGEST_LABEL: Final = 63
KEPT_S: Final = 3600
"""Seconds after which Kubernetes removes a Job that nobody has."""


def job_name(simulator: str, at: float) -> str:
    """Return the name of a Job that is created `at` (epoch seconds); it is a label of its pods, too."""
    suffix = f"-stress-{int(at):x}"
    return simulator[: LONGEST_LABEL - len(suffix)].rstrip("-.") + suffix


def manifest(
    name: str, simulator: Mapping[str, Any], arguments: Sequence[str], seconds: float, cpu: str
) -> dict[str, Any]:
    """Return the Job, ready to be created.

    It is the simulator's pod: its image, its rows, its token, its labels, by which network policies know it.

    Args:
        name: of the Job.
        simulator: the simulator's Deployment.
        arguments: of `python -m streamsim`.
        seconds: that the load lasts.
        cpu: limit of the pod; a generator that is short of it measures itself.

    Raises:
        ClusterError: the Deployment has no container.
    """
    template = copy.deepcopy(simulator["spec"]["template"])
    spec = template["spec"]
    container = _container(spec.get("containers") or [])
    for each in LEAVE_OUT:
        container.pop(each, None)
    container |= {"command": list(COMMAND), "args": list(arguments), "resources": _resources(container, cpu)}
    metadata = _metadata(template)
    _demand_tmp(spec, container)
    spec["volumes"] = [_own(each) for each in spec.get("volumes") or []]
    spec |= {"containers": [container], "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": metadata["labels"]},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(SLOWNESS * seconds) + PATIENCE_S,
            "ttlSecondsAfterFinished": KEPT_S,
            "template": {"metadata": metadata, "spec": spec},
        },
    }


def _container(containers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not containers:
        raise ClusterError("the simulator's Deployment has no container")
    return next((each for each in containers if each.get("name") == CONTAINER), containers[0])


def _resources(container: Mapping[str, Any], cpu: str) -> dict[str, Any]:
    """Return the container's own resources with another limit of CPU, and no request above it."""
    resources = copy.deepcopy(dict(container.get("resources") or {}))
    resources["limits"] = {**(resources.get("limits") or {}), "cpu": cpu}
    resources["requests"] = {**(resources.get("requests") or {}), "cpu": "100m"}
    return resources


def _demand_tmp(spec: dict[str, Any], container: dict[str, Any]) -> None:
    """Give it a /tmp where it has none: its journal is there, and the rest is read-only."""
    mounts = container.setdefault("volumeMounts", [])
    if any(each.get("mountPath", "").rstrip("/") == "/tmp" for each in mounts):  # noqa: S108  in a container
        return
    mounts.append({"name": "stress-tmp", "mountPath": "/tmp"})  # noqa: S108
    spec["volumes"] = [*(spec.get("volumes") or []), {"name": "stress-tmp", "emptyDir": {}}]


def _own(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Return a volume; for a claim, which has its owner, and maybe its node, an empty one."""
    return {"name": volume["name"], "emptyDir": {}} if "persistentVolumeClaim" in volume else dict(volume)


def _metadata(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod's labels, of which one is other: what asks for the stream's pods does not find this one."""
    metadata = template.get("metadata") or {}
    found = {name: metadata[name] for name in ("labels", "annotations") if metadata.get(name)}
    return {**found, "labels": {**found.get("labels", {}), COMPONENT: "stress"}}

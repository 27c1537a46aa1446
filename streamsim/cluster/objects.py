"""What Kubernetes' objects say, as far as it matters here. Pure: JSON in, numbers out.

Deployment (apps/v1), HorizontalPodAutoscaler (autoscaling/v2), Job (batch/v1), and PodMetricsList (metrics.k8s.io).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from streamsim.errors import ClusterError

Object = Mapping[str, Any]
SUFFIXES: Final = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3}


class Scaling(NamedTuple):
    """An autoscaler: its bounds, what it wants, and CPU in percent of the request: seen, and aimed at."""

    low: int
    high: int
    wanted: int
    percent: int | None
    target: int | None


class Look(NamedTuple):
    """A cluster at a moment (wall clock, seconds). None: not known at this moment.

    `cores`: what all pods use together, and `measured` how many of them that is the sum of.
    """

    at: float
    told: int
    ready: int
    scaling: Scaling | None
    cores: float | None = None
    measured: int | None = None


def by_kind(text: str) -> dict[str, Object]:
    """Return the objects that `kubectl get -o json` has printed, one of each kind; empty where it found nothing.

    Raises:
        ClusterError: it is no JSON of Kubernetes.
    """
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
        items = document["items"] if str(document["kind"]).endswith("List") else [document]
        return {str(each["kind"]): each for each in items}
    except (ValueError, LookupError, TypeError) as error:
        raise ClusterError(f"kubectl has printed what is no object of Kubernetes: {error!r}") from None


def look_at(at: float, deployment: Object, scaler: Object | None) -> Look:
    """Return what a Deployment and its autoscaler say. Fields that the API leaves out are zeros.

    Raises:
        ClusterError: they are not what they should be.
    """
    try:
        told = int(deployment["spec"].get("replicas", 1))
        ready = int(deployment.get("status", {}).get("readyReplicas", 0))
        return Look(at, told, ready, None if scaler is None else _scaling(scaler))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ClusterError(f"a Deployment or HorizontalPodAutoscaler of an unknown form: {error!r}") from None


def _scaling(scaler: Object) -> Scaling:
    spec, status = scaler["spec"], scaler.get("status", {})
    return Scaling(
        low=int(spec.get("minReplicas", 1)),
        high=int(spec["maxReplicas"]),
        wanted=int(status.get("desiredReplicas", 0)),
        percent=_cpu(status.get("currentMetrics") or (), "current"),
        target=_cpu(spec.get("metrics") or (), "target"),
    )


def _cpu(metrics: Iterable[Object], which: Literal["current", "target"]) -> int | None:
    """Return the percent of the CPU metric, where there is one, and where it is known by now."""
    for metric in metrics:
        resource = metric.get("resource") or {}
        if metric.get("type") == "Resource" and resource.get("name") == "cpu":
            percent = (resource.get(which) or {}).get("averageUtilization")
            return None if percent is None else int(percent)
    return None


def selector(deployment: Object) -> str:
    """Return what tells a Deployment's pods from others, for the query of an API."""
    labels = deployment.get("spec", {}).get("selector", {}).get("matchLabels", {})
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def usage(text: str) -> tuple[float, int]:
    """Return the cores that all pods of a PodMetricsList use, and how many pods they are.

    Raises:
        ClusterError: it is no such list.
    """
    try:
        pods = [[quantity(each["usage"]["cpu"]) for each in pod["containers"]] for pod in json.loads(text)["items"]]
    except (ValueError, LookupError, TypeError) as error:
        raise ClusterError(f"the metrics API has answered what is no PodMetricsList: {error!r}") from None
    return sum(map(sum, pods)), len(pods)


def quantity(text: str) -> float:
    """Read a quantity of CPU such as `250m`, `61234567n` or `1`, in cores.

    Raises:
        ValueError: it is none.
    """
    factor = SUFFIXES.get(text[-1:], 1.0)
    return float(text[:-1] if factor != 1.0 else text) * factor


def ending(job: Object) -> str | None:
    """Return how a Job has ended, `Complete` or the reason why not; None while it runs."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in {"Complete", "Failed"}:
            return "Complete" if condition["type"] == "Complete" else str(condition.get("reason") or "Failed")
    return None


def hindrance(pods: str) -> str | None:
    """Say what keeps the pods of a `kubectl get pods -o json` from starting; None where nothing does.

    Raises:
        ClusterError: it is no list of pods.
    """
    try:
        found = [_hindrance(pod.get("status", {})) for pod in json.loads(pods)["items"]]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ClusterError(f"kubectl has printed what is no list of pods: {error!r}") from None
    return next((each for each in found if each), None)


def _hindrance(status: Object) -> str | None:
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in {None, "ContainerCreating", "PodInitializing"}:
            return f"{waiting['reason']}: {waiting.get('message', 'no message')}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', 'not scheduled')}: {condition.get('message', 'no message')}"
    return None

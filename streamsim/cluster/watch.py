"""Looks at a Deployment, its autoscaler and its pods' CPU every few seconds, and goes on where a look fails."""

import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import quote

from streamsim.cluster.kubectl import Kubectl
from streamsim.cluster.objects import Look, Object, by_kind, ending, look_at, selector, usage
from streamsim.errors import ClusterError

METRICS: Final = "/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={selector}"
PATIENCE: Final = 12
"""Looks in a row that may fail. After that the cluster is taken to be gone."""
SETTLED: Final = 90.0
"""Seconds that are looked on at least: so long a metric may be behind, and be acted on."""


class Names(NamedTuple):
    """What is looked at. `scaler`: None where there is no autoscaler."""

    deployment: str
    scaler: str | None


class Clock(NamedTuple):
    """Time as it is, or as a test has it: wall clock and a pause, in seconds."""

    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class Watcher:
    """Gathers looks. `failed`: why looks are missing, each reason with its number."""

    def __init__(self, kubectl: Kubectl, names: Names, clock: Clock) -> None:
        self.looks: list[Look] = []
        self.failed: dict[str, int] = {}
        self._kubectl, self._names, self._clock = kubectl, names, clock
        self._in_a_row = 0

    def look(self, job: str | None = None) -> str | None:
        """Take a look; return how the Job has ended, None where it has not, or is not asked for.

        Raises:
            ClusterError: many looks in a row have failed.
        """
        try:
            found = self._objects(job)
            self._in_a_row = 0
        except ClusterError as error:
            self._in_a_row += 1
            self._note(str(error))
            if self._in_a_row >= PATIENCE:
                raise ClusterError(f"{PATIENCE} looks at the cluster have failed in a row: {error}") from None
            return None
        return ending(found["Job"]) if "Job" in found else None

    def first(self) -> Look:
        """Take the look that has to succeed.

        Raises:
            ClusterError: the cluster does not answer, or has no such Deployment or autoscaler.
        """
        self._objects(None)
        return self.looks[-1]

    def back(self, since: float) -> bool:
        """Tell whether all is as small again as it may be, and time enough has passed for anything to change that."""
        now = self.looks[-1]
        least = now.scaling.low if now.scaling else now.told
        return now.at - since >= SETTLED and now.told == now.ready == least

    def _objects(self, job: str | None) -> dict[str, Object]:
        names = [f"deployment/{self._names.deployment}"]
        names += [f"horizontalpodautoscaler/{self._names.scaler}"] if self._names.scaler else []
        names += [f"job/{job}"] if job else []
        at = self._clock.wall()
        found = by_kind(self._kubectl.ask("get", *names, "--output", "json", "--ignore-not-found"))
        self._demand(found)
        look = look_at(at, found["Deployment"], found.get("HorizontalPodAutoscaler"))
        self.looks.append(self._with_cpu(look, found["Deployment"]))
        return found

    def _demand(self, found: dict[str, Object]) -> None:
        name, scaler = self._names
        if "Deployment" not in found:
            raise ClusterError(f"there is no Deployment {name} in this namespace; `just k8s-up`, or --namespace")
        if scaler is not None and "HorizontalPodAutoscaler" not in found:
            advice = "deploy/kustomize/minikube has one; --no-autoscaler to look at the replicas alone"
            raise ClusterError(f"there is no HorizontalPodAutoscaler {scaler} in this namespace; {advice}")

    def _with_cpu(self, look: Look, deployment: Object) -> Look:
        """Add what the pods use; where nobody measures that, say so and go on."""
        metadata = deployment.get("metadata", {})
        path = METRICS.format(namespace=metadata.get("namespace", "default"), selector=quote(selector(deployment)))
        try:
            cores, pods = usage(self._kubectl.ask("get", "--raw", path))
        except ClusterError as error:
            self._note(f"no CPU: {error}")
            return look
        return look._replace(cores=cores, measured=pods) if pods else look

    def _note(self, reason: str) -> None:
        if reason not in self.failed:
            print(f"streamsim: {reason}", file=sys.stderr)
        self.failed[reason] = self.failed.get(reason, 0) + 1

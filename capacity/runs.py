"""What goes into a simulated run, and what comes out of it. Times in seconds."""

from typing import NamedTuple

from capacity.behavior import Bounds
from capacity.load import Load
from capacity.replicas import Patience
from capacity.service import Replica


class Autoscaler(NamedTuple):
    """A HorizontalPodAutoscaler and what it depends on.

    `cpu`: percent of the request. Beside it, or alone, what Prometheus knows of each pod, on average over a minute:
    `refused` calls a second, or calls `in_flight`, those that wait in sockets among them. None: not looked at.
    """

    bounds: Bounds
    cpu: int | None = 60
    refused: float | None = None
    in_flight: float | None = None
    sync: float = 15.0
    """`--horizontal-pod-autoscaler-sync-period`"""
    resolution: float = 15.0
    """`--metric-resolution` of metrics-server"""
    patience: Patience = Patience()


class Setup(NamedTuple):
    """What is simulated. `phase`: when metrics are looked at within their turn; the load begins at a whole minute.

    `reconnect`: seconds in which connections are made anew, and thereby spread over all replicas; 0 where each request
    is sent to any replica, as a proxy does it.
    """

    load: Load
    autoscaler: Autoscaler
    replica: Replica
    phase: float = 0.0
    reconnect: float = 0.0
    after: float = 480.0
    """Seconds that are looked at after the last truth."""


class Moment(NamedTuple):
    """Five seconds. Rates a second; `busy`: of the limits of all ready replicas; latencies in milliseconds."""

    at: float
    told: int
    ready: int
    rate: float
    busy: float
    p50: float
    p99: float
    errors: float


class Totals(NamedTuple):
    """All calls, and of them the predictions. `arrivals` = `answered` + `refused` + `waiting`."""

    arrivals: int
    answered: int
    refused: int
    waiting: int
    predictions: int
    failed: int


class Outcome(NamedTuple):
    """What came of it. Seconds count from the load's begin; `replica_seconds` is what it cost."""

    moments: list[Moment]
    totals: Totals
    replica_seconds: float

"""Wall clocks that are set, of the service or of the store's machine."""

import time

from tests.chaos.clock import WallClock
from tests.chaos.outcome import Counts
from tests.chaos.scene import RATE, Scene, is_well, metrics, wait_for

HOUR = 3600


def service_clock(scene: Scene) -> Counts:
    """Set that of a service forward by an hour, then an hour back from where it was, then right; with a restart."""
    clock = WallClock(scene.folder)
    with scene.service(**clock.environ) as service, scene.load(service.url, [service], 16) as load:
        for number, seconds in enumerate((HOUR, -HOUR, 0)):
            load.after((3 + 3 * number) * RATE)
            clock.set(seconds)
            if seconds == -HOUR:
                service.stop()
                service.start()
        scene.remark(f"longest lag of a truth: {_longest_lag(service)} s or less")
    return load.counts()


def _longest_lag(service: object) -> str:
    samples = metrics(service)  # type: ignore[arg-type]
    buckets = sorted(
        (float(dict(labels)["le"]), value)
        for (name, labels), value in samples.items()
        if name == "calsvc_feedback_lag_seconds_bucket"
    )
    most = max((value for _, value in buckets), default=0.0)
    return f"{next(bound for bound, value in buckets if value == most):g}"


def store_clock_forward(scene: Scene) -> Counts:
    """Set that of the store forward by more than the retention."""
    return _store_clock(scene, HOUR + 60)


def store_clock_back(scene: Scene) -> Counts:
    """Set that of the store back by an hour."""
    return _store_clock(scene, -HOUR)


def _store_clock(scene: Scene, seconds: int) -> Counts:
    clock = WallClock(scene.folder)
    with scene.fleet(server_environ=clock.environ) as fleet, scene.load(fleet.url, fleet.replicas, 14) as load:
        load.after(4 * RATE)
        clock.set(seconds)
        time.sleep(5)
        wait_for(lambda: all(map(is_well, fleet.replicas)))
    return load.counts()

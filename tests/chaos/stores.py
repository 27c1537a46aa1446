"""The shared store is lost, and comes back with what it had, or without."""

import signal
import time
from collections.abc import Callable

from tests.chaos.outcome import Counts
from tests.chaos.processes import PATIENT, STILL
from tests.chaos.scene import RATE, Scene, degraded, is_well, wait_for
from tests.live.fleet import Fleet
from tests.live.redis_server import FORGETFUL

AWAY = 5.0
"""Seconds that a store is away, where it does not stand still."""


def _with_outage(scene: Scene, outage: Callable[[Fleet], None], *options: str) -> Counts:
    """Let something happen to the store of three replicas, and wait until they are well again."""
    with scene.fleet(redis=options) as fleet, scene.load(fleet.url, fleet.replicas, 20, *PATIENT) as load:
        load.after(4 * RATE)
        outage(fleet)
        took = wait_for(lambda: all(map(is_well, fleet.replicas)))
        scene.remark(f"all replicas in touch {took:.1f} s after it was back")
    return load.counts()


def killed(scene: Scene) -> Counts:
    """Kill it, and start it again: with its append-only file it knows all that it had confirmed."""
    return _with_outage(scene, _kill)


def killed_and_empty(scene: Scene) -> Counts:
    """Kill one that keeps nothing on disk: it comes back empty."""
    return _with_outage(scene, _kill, *FORGETFUL)


def _kill(fleet: Fleet) -> None:
    fleet.redis.signal(signal.SIGKILL)
    wait_for(lambda: all(map(degraded, fleet.replicas)))
    time.sleep(AWAY)
    fleet.redis.start()


def still(scene: Scene) -> Counts:
    """Let it stand still."""

    def outage(fleet: Fleet) -> None:
        fleet.redis.signal(signal.SIGSTOP)
        time.sleep(STILL)
        fleet.redis.signal(signal.SIGCONT)

    return _with_outage(scene, outage)


def flushed(scene: Scene) -> Counts:
    """Empty it while it is used."""

    def outage(fleet: Fleet) -> None:
        fleet.redis.client.flushall()
        time.sleep(AWAY)

    return _with_outage(scene, outage)


def full(scene: Scene) -> Counts:
    """Let it have no memory for more."""

    def outage(fleet: Fleet) -> None:
        fleet.redis.client.config_set("maxmemory", "1mb")
        wait_for(lambda: all(map(degraded, fleet.replicas)))
        time.sleep(AWAY)
        fleet.redis.client.config_set("maxmemory", "0")

    return _with_outage(scene, outage)

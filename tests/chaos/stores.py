"""The shared store is lost, and comes back with what it had, or without."""

import signal
import socket
import sys
import time
from collections.abc import Callable

from tests.chaos.outcome import Counts
from tests.chaos.processes import PATIENT, STILL
from tests.chaos.scene import RATE, Scene, degraded, is_well, wait_for
from tests.live.fleet import Fleet, running
from tests.live.program import Program
from tests.live.redis_server import FORGETFUL, RedisServer
from tests.service_process import free_port

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


def _kill(fleet: Fleet, how_one_replica_ends: signal.Signals | None = None) -> None:
    """Kill it; start it again after a while, and in the middle of that one replica, where one is to end."""
    fleet.redis.signal(signal.SIGKILL)
    wait_for(lambda: all(map(degraded, fleet.replicas)))
    time.sleep(AWAY / 2)
    if how_one_replica_ends is not None:
        fleet.replicas[0].stop(how_one_replica_ends)
        fleet.replicas[0].start()
    time.sleep(AWAY / 2)
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


def replica_restarted_without(scene: Scene) -> Counts:
    """Restart one replica in order while it is away: what that one held comes back with it."""
    return _with_outage(scene, lambda fleet: _kill(fleet, signal.SIGTERM))


def replica_killed_without(scene: Scene) -> Counts:
    """Kill one replica while it is away."""
    return _with_outage(scene, lambda fleet: _kill(fleet, signal.SIGKILL))


def one_cut_off(scene: Scene) -> Counts:
    """Let the way of one replica to the store stand still."""
    with scene.fleet() as fleet, running(Wire(scene, fleet.redis)) as wire:
        replica = fleet.replicas[0]
        replica.stop()
        replica.environ["CALSVC_STORE"] = wire.url
        replica.start()
        with scene.load(fleet.url, fleet.replicas, 18, *PATIENT) as load:
            load.after(3 * RATE)
            wire.signal(signal.SIGSTOP)
            wait_for(lambda: degraded(replica))
            time.sleep(8)
            wire.signal(signal.SIGCONT)
            took = wait_for(lambda: all(map(is_well, fleet.replicas)))
            scene.remark(f"in touch again {took:.1f} s after its way was free")
    return load.counts()


class Wire(Program):
    """A relay to the server."""

    def __init__(self, scene: Scene, server: RedisServer) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        command = [sys.executable, "-m", "tests.feedback.wire", str(port), server.url]
        super().__init__(command, self._is_there, scene.folder / "wire.log")
        self._port = port

    def _is_there(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def full(scene: Scene) -> Counts:
    """Let it have no memory for more."""

    def outage(fleet: Fleet) -> None:
        fleet.redis.client.config_set("maxmemory", "1mb")
        wait_for(lambda: all(map(degraded, fleet.replicas)))
        time.sleep(AWAY)
        fleet.redis.client.config_set("maxmemory", "0")

    return _with_outage(scene, outage)

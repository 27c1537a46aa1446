"""Processes that are killed, restarted, or stand still: each part of it."""

import signal
import time

from tests.chaos.outcome import Counts
from tests.chaos.scene import RATE, Scene, is_well, wait_for
from tests.live.fleet import Replica
from tests.live.program import Program

STILL = 10.0
"""Seconds that a process stands still."""
PATIENT = ("--timeout", "30")
"""A client that waits for longer than that."""


def service_killed(scene: Scene) -> Counts:
    """Kill the one service there is, and start it again."""
    return _service_renewed(scene, signal.SIGKILL)


def service_killed_again_and_again(scene: Scene) -> Counts:
    """Kill it five times."""
    with scene.service() as service, scene.load(service.url, [service], 25) as load:
        for number in range(1, 6):
            load.after(3 * number * RATE)
            service.stop(signal.SIGKILL)
            service.start()
    return load.counts()


def service_restarted(scene: Scene) -> Counts:
    """Restart it in order."""
    return _service_renewed(scene, signal.SIGTERM)


def _service_renewed(scene: Scene, how: signal.Signals) -> Counts:
    with scene.service() as service, scene.load(service.url, [service], 12) as load:
        load.after(4 * RATE)
        service.stop(how)
        service.start()
    return load.counts()


def replica_killed(scene: Scene) -> Counts:
    """Kill one of three, and start it again five seconds later."""
    with scene.fleet() as fleet, scene.load(fleet.url, fleet.replicas, 14) as load:
        load.after(4 * RATE)
        fleet.replicas[0].stop(signal.SIGKILL)
        time.sleep(5)
        fleet.replicas[0].start()
    return load.counts()


def all_replicas_killed(scene: Scene) -> Counts:
    """Kill all three at once."""
    with scene.fleet() as fleet, scene.load(fleet.url, fleet.replicas, 14) as load:
        load.after(4 * RATE)
        for each in fleet.replicas:
            each.stop(signal.SIGKILL)
        for each in fleet.replicas:
            each.start()
    return load.counts()


def rolling_restart(scene: Scene) -> Counts:
    """Restart all three in order, one after the other."""
    with scene.fleet() as fleet, scene.load(fleet.url, fleet.replicas, 16) as load:
        load.after(2 * RATE)
        for each in fleet.replicas:
            each.stop()
            each.start()
    return load.counts()


def proxy_killed(scene: Scene) -> Counts:
    """Kill the proxy, and start it again a second later."""
    with scene.fleet() as fleet, scene.load(fleet.url, fleet.replicas, 12) as load:
        load.after(4 * RATE)
        fleet.proxy.stop(signal.SIGKILL)
        time.sleep(1)
        fleet.proxy.start()
    return load.counts()


def generator_killed(scene: Scene) -> Counts:
    """Kill the simulator, and let another one take on what it owed."""
    with scene.service() as service, scene.load(service.url, [service], 8) as load:
        load.after(5 * RATE)
        load.end()
        load.resume()
    return load.counts()


def service_still(scene: Scene) -> Counts:
    """Let the one service stand still."""
    with scene.service() as service, scene.load(service.url, [service], 18, *PATIENT) as load:
        load.after(4 * RATE)
        _stand_still(scene, service, [service])
    return load.counts()


def replica_still(scene: Scene) -> Counts:
    """Let one of three stand still."""
    with scene.fleet() as fleet, scene.load(fleet.url, fleet.replicas, 18) as load:
        load.after(4 * RATE)
        _stand_still(scene, fleet.replicas[0], fleet.replicas)
    return load.counts()


def generator_still(scene: Scene) -> Counts:
    """Let the simulator stand still: all that it had planned meanwhile leaves at once."""
    with scene.service() as service, scene.load(service.url, [service], 18, *PATIENT) as load:
        load.after(4 * RATE)
        load.process.send_signal(signal.SIGSTOP)
        time.sleep(STILL)
        load.process.send_signal(signal.SIGCONT)
    return load.counts()


def _stand_still(scene: Scene, program: Program, services: list[Replica]) -> None:
    program.signal(signal.SIGSTOP)
    time.sleep(STILL)
    program.signal(signal.SIGCONT)
    took = wait_for(lambda: all(map(is_well, services)))
    scene.remark(f"well again {took:.1f} s after it went on")

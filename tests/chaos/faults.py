"""The faults, in the order of the page, and what is promised of each."""

from collections.abc import Callable
from typing import Final, NamedTuple

from tests.chaos import around, clocks, crowds, disks, processes, stores
from tests.chaos.outcome import Counts, Promise
from tests.chaos.scene import RATE, Scene


class Fault(NamedTuple):
    """One fault: what is done, by whom, and what is promised."""

    title: str
    make: Callable[[Scene], Counts]
    promise: Promise


NONE_LOST: Final = Promise("no truth is lost, no request fails", failed=0)
LAST_MOMENT: Final = RATE // 10
"""What is acknowledged in 100 ms."""

FAULTS: Final = {
    # --- processes
    "service-killed": Fault(
        "the one service killed, started again",
        processes.service_killed,
        Promise("at most 100 ms of what waits is forgotten; the simulator tries again", lost=LAST_MOMENT, failed=0),
    ),
    "service-killed-5": Fault(
        "the same five times",
        processes.service_killed_again_and_again,
        Promise("the same each time", lost=5 * LAST_MOMENT, failed=0),
    ),
    "service-restarted": Fault(
        "the one service restarted in order", processes.service_restarted, Promise("nothing is forgotten", failed=0)
    ),
    "replica-killed": Fault("one of three replicas killed, back after 5 s", processes.replica_killed, NONE_LOST),
    "replicas-killed": Fault(
        "all three killed at once, started again",
        processes.all_replicas_killed,
        Promise("no truth is lost; what the simulator cannot hold until somebody is there again fails"),
    ),
    "rolling-restart": Fault("all three restarted in order, in turn", processes.rolling_restart, NONE_LOST),
    "proxy-killed": Fault("the proxy killed, back after 1 s", processes.proxy_killed, NONE_LOST),
    "simulator-killed": Fault(
        "the simulator killed, another one takes on what it owed",
        processes.generator_killed,
        Promise("every acknowledged prediction gets its truth"),
    ),
    # --- standing still
    "service-still": Fault("the one service stands still for 10 s", processes.service_still, NONE_LOST),
    "replica-still": Fault("one of three replicas stands still for 10 s", processes.replica_still, NONE_LOST),
    "simulator-still": Fault("the simulator stands still for 10 s", processes.generator_still, NONE_LOST),
    "store-still": Fault("the shared store stands still for 10 s", stores.still, NONE_LOST),
    # --- the shared store
    "store-killed": Fault("the shared store killed, back after 5 s", stores.killed, NONE_LOST),
    "store-empty": Fault("the same without a file: it comes back empty", stores.killed_and_empty, NONE_LOST),
    "store-flushed": Fault("the shared store emptied under way", stores.flushed, NONE_LOST),
    "store-killed-replica-restarted": Fault(
        "the shared store killed; one of three replicas restarted in order before it is back",
        stores.replica_restarted_without,
        NONE_LOST,
    ),
    "store-killed-replica-killed": Fault(
        "the same, but that replica is killed",
        stores.replica_killed_without,
        Promise("at most 100 ms of what that replica held is forgotten", lost=LAST_MOMENT, failed=0),
    ),
    "store-cut-off": Fault(
        "one of three replicas cut off from the shared store for 8 s, the others not", stores.one_cut_off, NONE_LOST
    ),
    "store-full": Fault("the shared store has no memory for more for 5 s", stores.full, NONE_LOST),
    # --- disks
    "disk-full": Fault(
        "the disk of the service's journal full for 4 s, the service killed 2 s later",
        disks.full_under_a_service,
        Promise("as if it had not been full", lost=LAST_MOMENT, failed=0),
    ),
    "disk-full-simulator": Fault(
        "the disk of the simulator's journal full",
        disks.full_under_the_generator,
        Promise("it ends and says so; every acknowledged prediction gets its truth from the next run"),
    ),
    "journal-cut": Fault(
        "the service killed, a third of its journal cut off",
        disks.journal_cut_off,
        Promise("it starts with all that was written before the cut, or with a new one, and says which", lost=None),
    ),
    "journal-cut-simulator": Fault(
        "the simulator killed, a third of its journal cut off",
        disks.generators_journal_cut_off,
        Promise(
            "the next run delivers all that was written before the cut, or begins a new one, and says which",
            lost=None,
            unrecorded=LAST_MOMENT,
        ),
    ),
    # --- clocks
    "clock-service": Fault(
        "the service's wall clock set 1 h forward, 1 h back (with a restart), right again",
        clocks.service_clock,
        NONE_LOST,
    ),
    "clock-store-forward": Fault(
        "the store's clock set forward past the retention", clocks.store_clock_forward, NONE_LOST
    ),
    "clock-store-back": Fault("the store's clock set 1 h back", clocks.store_clock_back, NONE_LOST),
    # --- around it
    "collector-hole": Fault(
        "the collector is a black hole, every request traced", around.collector_black_hole, NONE_LOST
    ),
    "registry-down": Fault("the registry killed, then the service restarted", around.registry_down, NONE_LOST),
    # --- crowds
    "idle": Fault("10,000 idle connections to the proxy", crowds.idle, NONE_LOST),
    "slow": Fault("1,000 connections to the proxy that send a byte a second", crowds.slow, NONE_LOST),
    "half": Fault("1,000 connections to the proxy that send a head and no body", crowds.half, NONE_LOST),
    "files": Fault("256 file descriptors for the service, 1,000 connections to the proxy", crowds.few_files, NONE_LOST),
}

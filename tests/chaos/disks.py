"""Disks that are full, and files that are damaged."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.outcome import Counts, Impossible
from tests.chaos.scene import RATE, Scene, degraded, is_well, wait_for

ROOM = 16 * 2**20
"""Bytes of a small disk."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of its own at a folder."""
    folder.mkdir()
    if os.geteuid() != 0:
        raise Impossible("a disk of its own is mounted by root alone")
    mount = ["/usr/bin/env", "mount", "-t", "tmpfs", "-o", f"size={ROOM}", "calsvc-chaos", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        raise Impossible("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["/usr/bin/env", "umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill a disk to the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def full_under_a_service(scene: Scene) -> Counts:
    """Fill the disk of its journal, and make room again."""
    with (
        small_disk(scene.folder / "store") as disk,
        scene.service() as service,
        scene.load(service.url, [service], 16) as load,
    ):
        load.after(3 * RATE)
        ballast = fill(disk)
        took = wait_for(lambda: degraded(service))
        time.sleep(4)
        ballast.unlink()
        back = wait_for(lambda: is_well(service))
        scene.remark(f"said so {took:.1f} s after it was full, and took {back:.1f} s to catch up")
        load.after(11 * RATE)
        service.stop(signal.SIGKILL)  # and it has caught up: the next process knows all
        service.start()
    return load.counts()


def full_under_the_generator(scene: Scene) -> Counts:
    """Fill the disk of the simulator's journal: it ends, and another one takes on what it owed."""
    with (
        small_disk(scene.folder / "load") as disk,
        scene.service() as service,
        scene.load(service.url, [service], 16) as load,
    ):
        load.after(3 * RATE)
        ballast = fill(disk)
        scene.remark(f"the first run ended with {load.wait()}: {load.last_words()}")
        ballast.unlink()
        load.resume()
    return load.counts()


def cut_off(file: Path) -> None:
    """Lose the last third of a file and of its write-ahead log."""
    for each in (file, file.with_name(file.name + "-wal")):
        if each.exists():
            os.truncate(each, each.stat().st_size * 2 // 3)


def journal_cut_off(scene: Scene) -> Counts:
    """Kill the service, cut off its journal, and start it again."""
    with scene.service() as service, scene.load(service.url, [service], 14) as load:
        load.after(5 * RATE)
        service.stop(signal.SIGKILL)
        cut_off(scene.folder / "store" / "waiting.db")
        service.start()
        wait_for(lambda: _told(service.said()))
        scene.remark("; ".join(_told(service.said())))
    return load.counts()


def _told(log: str) -> list[str]:
    lines = [line for line in log.splitlines() if '"event":"calsvc.store.' in line]
    return [re.sub(r"/\S.*/", "", json.loads(line)["message"]) for line in lines]


def generators_journal_cut_off(scene: Scene) -> Counts:
    """Kill the simulator, cut off its journal, and let another one go on with a new one."""
    with scene.service() as service, scene.load(service.url, [service], 8) as load:
        load.after(5 * RATE)
        load.end()
        cut_off(scene.folder / "load" / "owed.db")
        load.resume()
        load.wait()
        scene.remark(load.said_of("damaged"))
    return load.counts()

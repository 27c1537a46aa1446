"""A place for one fault: services, the load on them, and somebody who reads their counters all the time."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Final

import polars as pl

from streamsim.compare import Samples, total
from streamsim.report import compute, read_record
from streamsim.service_view import read_metrics
from tests.chaos.outcome import Counts
from tests.live.fleet import Fleet, Replica, running, running_fleet
from tests.live.program import NO_MORE
from tests.live.redis_server import DURABLE, RedisServer
from tests.service_process import PATIENCE, ROOT

RATE: Final = 200
"""Predictions a second, and truths, unless a fault wants others."""
DELAY: Final = 3.0
"""Seconds from a prediction to its truth."""
LOOK: Final = 0.2
"""Seconds between two looks at the counters of a service."""


class Scene:
    """One fault's folder, model and rows."""

    def __init__(self, folder: Path, model: Path, rows: Path) -> None:
        self.folder = folder
        self.rows = rows
        self.remarks: list[str] = []
        self.environ = {
            "CALSVC_MODEL": str(model),
            "CALSVC_HANDOUT_DIR": "no handout: the bundle is served as it is",
            "CALSVC_FEEDBACK_DELAY": f"{DELAY:g}",
            "CALSVC_DRAIN_DELAY": "1",
        }

    def remark(self, text: str) -> None:
        """Put down what else was seen."""
        self.remarks.append(text)

    @contextmanager
    def service(self, *prefix: str, **environ: str) -> Iterator[Replica]:
        """Run one service with a store of its own in a file; `prefix`: a command to run it by."""
        store = {"CALSVC_STORE": f"sqlite:///{self.folder / 'store' / 'waiting.db'}"}
        service = Replica(self.folder, {**self.environ, **store, **environ}, prefix)
        with running(service):
            yield service

    @contextmanager
    def fleet(self, redis: Sequence[str] = (), server_environ: Mapping[str, str] = NO_MORE) -> Iterator[Fleet]:
        """Run three replicas that share a store, behind a proxy."""
        server = RedisServer(self.folder / "redis", tuple(redis) or DURABLE, server_environ)
        with running_fleet(self.folder, self.environ, 3, server=server) as fleet:
            yield fleet

    @contextmanager
    def load(self, url: str, services: Sequence[Replica], seconds: float, *more: str) -> Iterator["Load"]:
        """Load a service for some seconds; the end of the block waits for the last truth."""
        load = Load(self, url, more)
        with counting(services) as counter:
            load.start(seconds)
            try:
                yield load
                load.wait()
            finally:
                load.end()
            time.sleep(2 * LOOK)
        load.counted = counter.matched


class Load:
    """The simulator as a process."""

    def __init__(self, scene: Scene, url: str, more: Sequence[str]) -> None:
        self._scene = scene
        self._url = url
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None
        self.counted = 0.0

    def start(self, seconds: float) -> None:
        """Send new records for so long, and truths until all are delivered."""
        self._run("--rps", str(RATE), "--on", f"{seconds:g}", "--off", "0", "--cycles", "1")

    def resume(self) -> None:
        """Send what an earlier one owes."""
        self._run("--resume")

    def _run(self, *arguments: str) -> None:
        folder = self._scene.folder
        command = [sys.executable, "-m", "streamsim", "stream", "--url", self._url, "--data", str(self._scene.rows)]
        command += ["--journal", str(folder / "load" / "owed.db"), "--record", str(folder / "record.ndjson")]
        command += ["--report", str(folder / "report.json"), "--feedback-delay", f"{DELAY:g}", "--metrics-port", "0"]
        with (folder / "load.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *arguments, *self._more], cwd=ROOT, env=os.environ, stdout=log, stderr=log
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that was started last."""
        assert self._process is not None
        return self._process

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        return self.process.wait(5 * PATIENCE)

    def end(self) -> None:
        """Whatever it is at, it ends."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The last line that it has printed, without the folder."""
        return self.said_of("")

    def said_of(self, word: str) -> str:
        """The last line that it has printed with a word in it, without the folder."""
        printed = (self._scene.folder / "load.log").read_text(errors="replace").strip()
        found = [line for line in printed.splitlines() if word in line]
        return found[-1].replace(f"{self._scene.folder}/", "") if found else f"nothing of {word}"

    def after(self, acknowledged: int) -> None:
        """Wait until so many predictions were acknowledged."""
        record = self._scene.folder / "record.ndjson"
        wait_for(lambda: record.exists() and record.read_bytes().count(b'"event": "prediction"') >= acknowledged)

    def counts(self) -> Counts:
        """Say what came of it, once it has ended."""
        report = json.loads((self._scene.folder / "report.json").read_text())
        record = read_record(self._scene.folder / "record.ndjson")
        offline = compute(record)
        at = sorted(record["predicted_at"].drop_nulls().unique().to_list())
        return Counts(
            acknowledged=offline.acknowledged,
            failed={**report["errors"], **({"not_sent": report["not_sent"]} if report["not_sent"] else {})},
            joined=offline.joined,
            statuses=offline.statuses,
            met=record.filter(pl.col("status").is_in(["matched", "duplicate"]))["id"].n_unique(),
            owed=report["owed"],
            counted=int(self.counted),
            silence=round(max((later - earlier for earlier, later in pairwise(at)), default=0.0), 1),
        )


class Matched:
    """The truths that services have matched, each in all of its lives."""

    def __init__(self, services: Sequence[Replica]) -> None:
        self._services = services
        self._lives: Counter[tuple[str, float]] = Counter()

    @property
    def matched(self) -> float:
        """All of them."""
        return float(sum(self._lives.values()))

    def look(self) -> None:
        """Read the counters of those that answer."""
        for each in self._services:
            samples = read_metrics(each.url)
            if born := total(samples, "process_start_time_seconds"):
                self._lives[each.url, born] = int(total(samples, "calsvc_quality_matched_total") or 0)


@contextmanager
def counting(services: Sequence[Replica]) -> Iterator[Matched]:
    """Look at services again and again."""
    matched, over = Matched(services), Event()

    def look() -> None:
        while not over.wait(LOOK):
            matched.look()

    thread = Thread(target=look)
    thread.start()
    try:
        yield matched
    finally:
        over.set()
        thread.join()
        matched.look()


def metrics(service: Replica) -> Samples:
    """One scrape; empty where it does not answer."""
    return read_metrics(service.url)


def grown(before: Samples, after: Samples) -> str:
    """How much more memory a service has taken from one scrape to another."""
    first, last = (total(samples, "process_resident_memory_bytes") or 0.0 for samples in (before, after))
    return f"memory {(last - first) / 2**20:+.0f} MiB"


def degraded(service: Replica) -> bool:
    """Whether it says that its store is."""
    return total(metrics(service), "calsvc_store_degraded") == 1


def is_well(service: Replica) -> bool:
    """Whether it answers, and its store keeps what it should."""
    return total(metrics(service), "calsvc_store_degraded") == 0


def wait_for(holds: Callable[[], object], patience: float = PATIENCE) -> float:
    """Ask again and again; return how long it took, seconds."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > patience:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.02)
    return time.monotonic() - begun

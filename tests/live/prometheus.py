"""A real Prometheus on loopback, with the configuration and rules of this repository and a scrape every second."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import yaml

from tests.live.program import answers
from tests.needs import needed
from tests.service_process import PATIENCE, ROOT, free_port

CONFIG = ROOT / "observability" / "stack" / "prometheus.yaml"
RULES = sorted((ROOT / "observability" / "rules").glob("*.yml"))
JOB = "calsvc"
"""The job's name that the rules rely on."""
SIMULATOR = "streamsim"
T = TypeVar("T")


class Sample(NamedTuple):
    """One value of an instant vector. A scalar has no labels."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, folder: Path, targets: int) -> None:
        self.process = process
        self.url = url
        self._targets = targets
        self._log = folder / "prometheus.log"

    def get(self, path: str, **parameters: str) -> Any:
        """Ask the HTTP API; return `data`. RuntimeError with what Prometheus says where it refuses."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - always http://127.0.0.1
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{parameters}: {error.read().decode(errors='replace')}") from None

    def query(self, expression: str) -> list[Sample]:
        """Evaluate PromQL now; an expression without an answer is an empty list."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    def exemplars(self, selector: str) -> list[dict[str, Any]]:
        """Exemplars of the last hour, each with its labels, value and timestamp."""
        now = time.time()
        series = self.get("query_exemplars", query=selector, start=f"{now - 3600}", end=f"{now + 60}")
        return [exemplar for each in series for exemplar in each["exemplars"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule as Prometheus has loaded it, with its health."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def wait_for(self, what: str, ask: Callable[[], T], patience: float = PATIENCE) -> T:
        """Ask again and again until the answer is true; TimeoutError after `patience` seconds."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if answer := ask():
                return answer
            if self.process.poll() is not None:
                raise RuntimeError(f"Prometheus exited with {self.process.returncode}: {self.output()}")
            time.sleep(0.2)
        raise TimeoutError(f"{what} did not come within {patience:g} s")

    def wait_for_scrapes(self, number: int = 2) -> None:
        """Wait until every target was scraped and every rule evaluated `number` times more, from beginning to end."""
        for _ in range(number):
            since = time.time()
            self.wait_for("a scrape", lambda since=since: self._begun_after(since))

    def output(self) -> str:
        """Everything the process has printed."""
        return self._log.read_text(errors="replace")

    def _begun_after(self, since: float) -> bool:
        scrapes = [target["lastScrape"] for target in self.get("targets", state="active")["activeTargets"]]
        groups = [group["lastEvaluation"] for group in self.get("rules")["groups"]]
        found = len(scrapes) == self._targets and bool(groups)  # neither is there in the first moment
        return found and all(_epoch(moment) > since for moment in (*scrapes, *groups))


def _epoch(moment: str) -> float:
    """Seconds since the epoch of Go's RFC 3339, whose nine digits and zone Python 3.11 takes as well."""
    return datetime.fromisoformat(moment).timestamp()


def configured(folder: Path, targets: Mapping[str, Sequence[str]]) -> Path:
    """Write the repository's configuration to `folder`, but for a scrape every second, and `targets` (URLs) by job."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["rule_files"] = [str(rule) for rule in RULES]
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))  # JSON is YAML
    (folder / "targets").mkdir(exist_ok=True)
    for job, urls in targets.items():
        addresses = [urlsplit(url).netloc for url in urls]
        (folder / "targets" / f"{job}.yaml").write_text(json.dumps([{"targets": addresses}]))
    return file


@contextmanager
def prometheus_server(folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Run Prometheus with its data in `folder`, scraping `targets` (URLs by job) and itself; end it by its id."""
    program = needed("prometheus")
    url = f"http://127.0.0.1:{free_port()}"
    everywhere = {**targets, "prometheus": [url]}
    command = [program, f"--config.file={configured(folder, everywhere)}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address={urlsplit(url).netloc}", "--enable-feature=exemplar-storage"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            prometheus = Prometheus(process, url, folder, sum(map(len, everywhere.values())))
            prometheus.wait_for("Prometheus", lambda: answers(f"{prometheus.url}/-/ready"))
            yield prometheus
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

"""A real OpenTelemetry Collector on loopback, with the configuration of this repository."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.live.program import Program
from tests.needs import needed
from tests.service_process import ROOT, free_port

CONFIG = ROOT / "observability" / "stack" / "collector.yaml"
DECISION_WAIT = "2s"
"""Ten times as long as senders in these tests keep their spans."""
T = TypeVar("T")


class Span(NamedTuple):
    """A span as the collector has written it. Times in nanoseconds since the epoch, links as (trace, span)."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    links: list[tuple[str, str]]
    error: bool
    start: int
    end: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e9


INTERNAL, SERVER, CLIENT = 1, 2, 3


class Collector:
    """A collector that can be stopped, killed and started again: same ports, same file."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *configs: Path) -> None:
        health, metrics, http, grpc = (f"127.0.0.1:{free_port()}" for _ in range(4))
        self._file = folder / "traces.jsonl"
        settings = {
            "COLLECTOR_OTLP_HTTP": http,
            "COLLECTOR_OTLP_GRPC": grpc,
            "COLLECTOR_HEALTH": health,
            "COLLECTOR_METRICS_PORT": metrics.rpartition(":")[2],
            "COLLECTOR_DECISION_WAIT": DECISION_WAIT,
            "COLLECTOR_EXPORTERS": "[file]",
            "COLLECTOR_FILE": str(self._file),
            **environ,
        }
        self.senders = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{http}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "NO_PROXY": "127.0.0.1",
        }
        """What a process needs to send its spans here."""
        self.http, self.grpc = http, grpc
        command = [needed("collector"), *(f"--config={each}" for each in (CONFIG, *configs))]
        program = Program(command, f"http://{health}", folder / "collector.log", settings)
        self.start, self.signal, self.end, self.wait_for = program.start, program.signal, program.end, program.wait_for

    def spans(self) -> list[Span]:
        """Everything that it has decided to keep up to now."""
        if not self._file.exists():
            return []
        lines = self._file.read_text().split("\n")[:-1]  # behind the last newline is what it is still writing
        return [span for line in lines for group in json.loads(line)["resourceSpans"] for span in _read(group)]


@contextmanager
def running_collector(folder: Path, *configs: Path, **environ: str) -> Iterator[Collector]:
    """Run a collector with its files in `folder`, `configs` and `environ` on top of the tests' own."""
    collector = Collector(folder, environ, *configs)
    try:
        collector.start()
        yield collector
    finally:
        collector.end()


def _read(group: dict[str, Any]) -> Iterator[Span]:
    resource = _attributes(group["resource"])
    for scope in group["scopeSpans"]:
        for span in scope["spans"]:
            yield Span(
                service=resource["service.name"],
                name=span["name"],
                kind=span["kind"],
                trace=span["traceId"],
                id=span["spanId"],
                parent=span.get("parentSpanId", ""),
                attributes=_attributes(span),
                resource=resource,
                links=[(link["traceId"], link["spanId"]) for link in span.get("links", [])],
                error=span.get("status", {}).get("code") == 2,
                start=int(span["startTimeUnixNano"]),
                end=int(span["endTimeUnixNano"]),
            )


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for attribute in holder.get("attributes", []):
        ((kind, value),) = attribute["value"].items()
        found[attribute["key"]] = int(value) if kind == "intValue" else value
    return found

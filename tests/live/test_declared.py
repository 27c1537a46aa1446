"""Declared is what is emitted: service and simulator go through all that they do, and every name is compared.

Metrics, spans and log events are those of observability/signals.py, with their labels and attributes; none is missing.
"""

import json
import logging
import os
import re
import shutil
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import pytest
from msgspec.structs import replace
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from prometheus_client.parser import text_string_to_metric_families as parse
from starlette.types import ASGIApp

from calsvc.http.errors import RegistryError
from calsvc.model.bundle import Bundle, load_bundle
from calsvc.registry.address import RegisteredModel
from calsvc.registry.serving import ServingModel
from calsvc.registry.watch import ModelWatch, WatchSettings
from calsvc.server import uvicorn_config
from calsvc.training.publish import publish
from observability import profiles, signals
from observability.logs import IN_LINES, JsonLines, LineHandler
from observability.provenance import resource_of
from observability.testing import OF_ANY_LINE, Listener, complaints, listening
from tests.conftest import Workshop, run_module
from tests.http.test_schema import WORKOUT
from tests.live.burst import send_burst
from tests.live.standin import StandIn, standing_in
from tests.live.test_traces import simulator
from tests.local_collector import LocalCollector
from tests.making import successor
from tests.service_process import PATIENCE, ServiceProcess, free_port, service_process
from tests.serving import serving
from tests.test_app import running
from tests.test_shadow import Challenger, challenge, in_the_loop

pytestmark = pytest.mark.slow

OF_EACH_LINE = {"timestamp", "level", "event", "message", *IN_LINES}
OF_AN_ERROR = {"exception.type", "exception.stacktrace"}
KINDS = {"internal": 1, "server": 2, "client": 3}
OURS = [metric for metric in signals.METRICS if metric.owner != "streamsim"]
SIMULATORS = [metric for metric in signals.METRICS if metric.owner == "streamsim"]


@dataclass
class Seen:
    """Everything that came out."""

    families: dict[str, tuple[str, str, set[frozenset[str]]]] = field(default_factory=dict)
    """By exposed name: kind, help and each set of labels."""
    spans: list[tuple[str, int, str, dict[str, Any]]] = field(default_factory=list)
    """Service, kind, name and attributes."""
    resource: set[str] = field(default_factory=set)
    lines: list[dict[str, Any]] = field(default_factory=list)
    told: list[tuple[str, set[str]]] = field(default_factory=list)
    """Events and attributes of what this very process has told."""

    def scrape(self, text: str) -> None:
        """Take down one /metrics."""
        for family in parse(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {frozenset(sample.labels.keys() - {"le"}) for sample in family.samples}
            known = self.families.get(name, ("", "", set()))[2]
            self.families[name] = (family.type, family.documentation, known | labels)

    def read(self, log: str) -> None:
        """Take down the lines of a process: all of them are JSON."""
        self.lines += [json.loads(line) for line in log.splitlines() if not line.startswith("streamsim: ")]

    def take(self, collector: LocalCollector) -> None:
        """Take down the spans that have arrived."""
        for group in (group for export in collector.exports() for group in export.resource_spans):
            resource = _values(group.resource.attributes)
            self.resource |= resource.keys()
            for span in (span for scope in group.scope_spans for span in scope.spans):
                service = str(resource["service.name"])
                self.spans.append((service, span.kind, span.name, _values(span.attributes)))


def _values(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes}


# --- everything that they do ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What came out of two lives of the service, the simulator's runs, and mistakes that are made in this process."""
    folder, everything = tmp_path_factory.mktemp("declared"), Seen()
    with taking_spans() as collector, standing_in(two_versions(workshop, folder), {"champion": "1"}) as registry:
        first_life(workshop, folder, (registry, collector), everything)
        second_life(folder, registry, everything)
        everything.take(collector)
    lives_of_a_store(workshop, folder, everything)
    run_in_vain(folder, everything)
    with listening() as listener:
        make_mistakes(workshop.bundle)
        anyio.run(check_in_vain, folder)
        lose_profiles(listener)
        anyio.run(die_at_the_start, listener)
        everything.lines += lose_lines()
    everything.told += [(each.event.name, set(each.attributes)) for each in listener.told]
    assert listener.complaints() == []
    return everything


@contextmanager
def taking_spans() -> Iterator[LocalCollector]:
    """A collector that takes everything until it is told otherwise."""
    with serving(LocalCollector()) as server:
        yield server


def two_versions(workshop: Workshop, folder: Path) -> dict[str, Path]:
    """The bundle and its successor, as versions of the registry."""
    bundle = load_bundle(workshop.bundle)
    files = {name: bundle.read(name) for name in bundle.manifest.checksums}
    return {"1": workshop.bundle, "2": publish(successor(bundle.manifest, 1), files, folder / "next").folder}


def environ_of(registry: StandIn, **more: str) -> dict[str, str]:
    """A service that follows the stand-in, when it is told to."""
    model = {"CALSVC_MODEL": "models:/calories@champion", "CALSVC_MODEL_POLL": "3600", "NO_PROXY": "127.0.0.1"}
    nobody = f"http://127.0.0.1:{free_port()}"
    return model | {"MLFLOW_TRACKING_URI": registry.url, "PYROSCOPE_SERVER_ADDRESS": nobody} | more


def first_life(workshop: Workshop, folder: Path, around: tuple[StandIn, LocalCollector], everything: Seen) -> None:
    """Start with a model that cannot be remembered, swap, shadow, be streamed to and overloaded; lose spans; leave."""
    registry, collector = around
    unwritable = folder / "data" / "registry" / "calories" / "@champion.json"
    unwritable.mkdir(parents=True)
    spans = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    own = {"CALSVC_FEEDBACK_DELAY": "0.5", "CALSVC_MAX_IN_FLIGHT": "4", "OTEL_TRACES_SAMPLER": "always_on"}
    with service_process(folder, environ_of(registry, **spans, **own), folder_of_process=folder) as service:
        send_no_http(service)
        wait_for(service, signals.MODEL_NOT_REMEMBERED)  # it is ready before it keeps its books
        unwritable.rmdir()
        move(service, registry, champion="2", challenger="1")
        stream(workshop, folder, service, spans, everything)
        send_burst(service, lambda: time.sleep(0.1))
        wait_for(service, signals.REQUESTS_REFUSED)
        registry.down = True
        service.process.send_signal(signal.SIGHUP)
        wait_for(service, signals.MODEL_KEPT)
        everything.scrape(service.call("/metrics")[2].decode())
        wait_for(service, signals.PROFILES_LOST)
        collector.answers = [400] * 1000
        service.call("/info")
        wait_for(service, signals.SPANS_LOST)
        assert service.stop() == 0
        everything.read(service.output())


def second_life(folder: Path, registry: StandIn, everything: Seen) -> None:
    """Start while the registry is down, without the package for profiles and with a variable that has no effect."""
    (folder / "without").mkdir()
    (folder / "without" / "pyroscope.py").write_text("raise ImportError('not here')\n")
    odd = {"PYTHONPATH": str(folder / "without"), "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h"}
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with service_process(folder, environ_of(registry, **odd, **nobody), folder_of_process=folder) as service:
        wait_for(service, signals.MODEL_RESTORED)
        assert service.stop() == 0
        everything.read(service.output())


def lives_of_a_store(workshop: Workshop, folder: Path, everything: Seen) -> None:
    """Take a store's file away, damage it, leave it in order, put another thing in its place, lose a server."""
    file = folder / "store" / "waiting.db"
    environ = workshop.environ() | {"CALSVC_STORE": f"sqlite:///{file}"}
    nowhere = {"CALSVC_STORE": f"redis://127.0.0.1:{free_port()}/0", "CALSVC_STORE_HELD": str(folder / "held")}

    @contextmanager
    def life(after: signals.Event | None, **more: str) -> Iterator[ServiceProcess]:
        with service_process(folder, environ | more) as service:
            if after is not None:
                wait_for(service, after)
            assert service.call("/predict", WORKOUT)[0] == 200
            yield service
            everything.read(service.output())

    with life(after=None) as service:
        for each in file.parent.iterdir():
            each.unlink()
        assert service.call("/predict", WORKOUT)[0] == 200
        wait_for(service, signals.STORE_BACK)
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    for each in file.parent.iterdir():  # the write-ahead log, too: it would be enough to restore everything
        each.write_bytes(b"no database" * 1000)
    with life(after=signals.STORE_DAMAGED) as service:
        assert service.stop() == 0
    with life(after=signals.STORE_RESTORED) as service:
        shutil.rmtree(file.parent)
        file.parent.touch()
        assert service.call("/predict", WORKOUT)[0] == 200
        wait_for(service, signals.STORE_DEGRADED)
        assert service.stop() == 0
    with life(after=signals.STORE_DEGRADED, **nowhere) as service:
        assert service.stop() == 0


def move(service: ServiceProcess, registry: StandIn, **aliases: str) -> None:
    """Move aliases, tell the service, and wait until it shadows a challenger."""
    registry.aliases |= aliases
    service.process.send_signal(signal.SIGHUP)
    until(lambda: json.loads(service.call("/info")[2])["challenger"], service)


def stream(workshop: Workshop, folder: Path, service: ServiceProcess, spans: dict[str, str], everything: Seen) -> None:
    """Let the simulator run through an outage of the service, until somebody ends it."""
    log = folder / "simulator.log"
    arguments = ["--rps", "20", "--on", "5", "--off", "0", "--feedback-delay", "0.5", "--timeout", "0.5"]
    port = free_port()
    with simulator(
        folder, workshop, service.url, spans, *arguments, "--log", "json", *metrics_options(port)
    ) as process:
        until(lambda: b'outcome="matched"} 0.0' not in service.call("/metrics")[2], service)
        service.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: signals.SERVICE_UNREACHABLE.name in log.read_text(), service)
        finally:
            service.process.send_signal(signal.SIGCONT)
        until(lambda: signals.SERVICE_REACHABLE.name in log.read_text(), service)
        scrape_simulator(port, everything)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    everything.read(log.read_text())


def metrics_options(port: int) -> list[str]:
    """What makes the simulator show its metrics, where it has any."""
    return ["--metrics-port", str(port)] if SIMULATORS else []


def scrape_simulator(port: int, everything: Seen) -> None:
    """Take down the simulator's metrics, where it has any."""
    if SIMULATORS:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            everything.scrape(answer.read().decode())


def send_no_http(service: ServiceProcess) -> None:
    """Send bytes that are no request."""
    parts = urlsplit(service.url)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
        connection.sendall(b"what is this\r\n\r\n")
        connection.recv(1000)


def run_in_vain(folder: Path, everything: Seen) -> None:
    """A run of the simulator that cannot begin."""
    (folder / "owed").write_bytes(b"no journal" * 1000)
    failed = run_module(folder, "streamsim", "stream", "--resume", "--journal", "owed", "--log", "json")
    assert failed.returncode == 1
    everything.read(failed.stdout)


def make_mistakes(bundle: Path) -> None:
    """Models without an answer and a page without numbers, which a service that is right does not have."""
    for service in running(bundle):
        challenge(service, Challenger(None))
        assert service.predict().status_code == 200
        assert service.state.champion is not None
        champion = service.state.champion.bundle
        silent = Bundle(champion.folder, replace(champion.manifest, model_version="20300101T000000Z-silence"))
        in_the_loop(service, service.state.install, ServingModel("champion", silent, Challenger(None)))
        assert service.predict().status_code == 500
        page = service.client.app_state["page"]
        del service.state.meters.request_duration
        in_the_loop(service, anyio.to_thread.run_sync, page.sampler._try)  # noqa: SLF001 - what it does every second


def lose_profiles(listener: Listener) -> None:
    """Nobody listens where profiles are sent, and then somebody does."""

    def wait_for_event(event: signals.Event) -> None:
        until = time.monotonic() + PATIENCE
        while event not in [each.event for each in listener.told]:
            assert time.monotonic() < until
            time.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as taken:
        patch.setattr(profiles, "WATCH_INTERVAL", 0.01)
        address = taken.getsockname()
        taken.close()
        watch = profiles._Watch(f"http://127.0.0.1:{address[1]}")  # noqa: SLF001 - what it does every 15 s
        wait_for_event(signals.PROFILES_LOST)
        with socket.create_server(address):
            wait_for_event(signals.PROFILES_BACK)
        watch.end()


async def die_at_the_start(listener: Listener) -> None:
    """An application that dies under the HTTP server."""
    config = uvicorn_config(cast("ASGIApp", None))
    config.load()
    server = logging.getLogger("uvicorn")
    server.addHandler(listener)
    try:
        await config.lifespan_class(config).startup()
    finally:
        server.removeHandler(listener)


def lose_lines() -> list[dict[str, Any]]:
    """A log that lost its first line, as it says after its second."""
    read, write = os.pipe()
    handler = LineHandler(write, most=0)
    handler.setFormatter(JsonLines(resource_of("calsvc")))
    handler.handle(logging.makeLogRecord({"name": "tests", "msg": "there is no room", "levelname": "INFO"}))
    handler.most = 1
    handler.handle(logging.makeLogRecord({"name": "tests", "msg": "there is", "levelname": "INFO"}))
    handler.flush()
    handler.close()
    os.close(write)
    with os.fdopen(read) as reader:
        return [json.loads(line) for line in reader]


async def check_in_vain(folder: Path) -> None:
    """A registry's client that makes a mistake."""

    class Mistaken:
        async def resolve(self, name: str, alias: str) -> None:
            raise ZeroDivisionError(name, alias)

    class Slots:
        def noted(self, *_: object) -> None: ...

    settings = WatchSettings(model=RegisteredModel("calories", "champion"))
    watch = ModelWatch(settings, Mistaken(), folder / "nothing", None, Slots())  # type: ignore[arg-type]
    with pytest.raises(RegistryError):
        await watch.start()


def wait_for(service: ServiceProcess, event: signals.Event) -> None:
    """Wait until the service has written a line about an event."""
    until(lambda: f'"event":"{event.name}"' in service.output(), service)


def until(ask: Callable[[], Any], service: ServiceProcess) -> None:
    """Ask again and again until the answer is true."""
    end = time.monotonic() + PATIENCE
    while not ask():
        assert time.monotonic() < end, service.output()
        time.sleep(0.05)


# --- compared with the declarations -----------------------------------------------------------------------------------


def test_every_metric_is_declared_and_every_declared_one_is_there(seen: Seen):
    """Under its exposed name; those of libraries, too."""
    library = (
        signals.STANDARD if sys.platform == "linux" else [each for each in signals.STANDARD if each.name == "target"]
    )
    assert seen.families.keys() == {metric.exposed for metric in (*OURS, *SIMULATORS, *library)}


@pytest.mark.parametrize("metric", [*OURS, *SIMULATORS], ids=lambda metric: metric.exposed)
def test_a_metric_is_as_declared(seen: Seen, metric: signals.Metric):
    """Kind, help, and the same labels on each of its series."""
    labels = frozenset(name.replace(".", "_") for name in metric.attributes)
    kind = "gauge" if metric.kind == "up_down_counter" else metric.kind
    assert seen.families[metric.exposed] == (kind, metric.help, {labels})


def test_the_metrics_of_libraries_are_as_declared(seen: Seen):
    """Kind and help; of `target_info` the labels are the resource."""
    shown = {metric.exposed: metric for metric in signals.STANDARD if metric.exposed in seen.families}
    assert {name: seen.families[name][:2] for name in shown} == {
        name: (metric.kind, metric.help) for name, metric in shown.items()
    }
    assert {name for labels in seen.families["target_info"][2] for name in labels} <= {
        fact.name.replace(".", "_") for fact in signals.RESOURCE
    }


def test_every_span_is_declared_and_every_declared_one_is_there(seen: Seen):
    """By service, kind and name, with all attributes that it always has, and no undeclared one."""
    found = set()
    for service, kind, name, attributes in seen.spans:
        (span,) = [
            span
            for span in signals.SPANS
            if (span.owner, KINDS[span.kind], filled_in(span.name, attributes)) == (service, kind, name)
        ]
        always = {each for each in span.attributes if not each.startswith("?")}
        assert always <= attributes.keys() <= {each.removeprefix("?") for each in span.attributes}, name
        found.add(span)
    assert found == set(signals.SPANS)


def filled_in(name: str, attributes: dict[str, Any]) -> str:
    """A span's name, with its braces filled in; a path that does not exist has no route."""
    return re.sub(r"\{(.*?)\}", lambda found: attributes.get(found[1], ""), name).rstrip()


def test_the_resource_is_declared(seen: Seen):
    """What spans say of their process, and all of it."""
    assert seen.resource == {fact.name for fact in signals.RESOURCE}


def test_every_line_has_what_each_line_has(seen: Seen):
    """The process that wrote it, and the level of its event; no key that is not a word of this page."""
    levels = {event.name: event.level for event in signals.EVENTS}
    assert {line["service.name"] for line in seen.lines} == {"calsvc", "streamsim"}
    for line in seen.lines:
        assert line.keys() >= OF_EACH_LINE
        assert levels[line["event"]] in {line["level"], "as logged"}
        assert (line.keys() >= OF_AN_ERROR) == bool(line.keys() & OF_AN_ERROR)
        assert (line.keys() >= OF_ANY_LINE) == bool(line.keys() & OF_ANY_LINE)


def test_every_event_is_as_declared(seen: Seen):
    """With the attributes of its event."""
    for line in seen.lines:
        attributes = {name: each for name, each in line.items() if name not in OF_EACH_LINE | OF_AN_ERROR}
        assert complaints(line["event"], attributes) == [], line


def test_every_declared_event_is_told(seen: Seen):
    """By a process, or, where it takes a mistake of the program or a quarter of a minute, by this one."""
    told = {line["event"] for line in seen.lines}
    assert told | {name for name, _ in seen.told} == {event.name for event in signals.EVENTS}
    assert {event.name for event in signals.EVENTS} - told <= {
        signals.CHALLENGER_SILENT.name,
        signals.REQUEST_FAILED.name,
        signals.SERVER_LINE.name,
        signals.LINES_LOST.name,
        signals.PAGE_FAILED.name,
        signals.MODEL_CHECK_FAILED.name,
        signals.PROFILES_BACK.name,
    }


def test_no_line_has_what_a_record_held(seen: Seen):
    """No id, no measurement: the lines name none of the fields of a record."""
    for line in seen.lines:
        text = json.dumps({name: each for name, each in line.items() if name != "exception.stacktrace"})
        assert not re.search(r"Heart_Rate|Body_Temp|Height|Weight|crowd \d|nobody", text), line

"""What Prometheus sees of a run while it lasts: the numbers of its summary, as they are declared."""

import argparse
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from observability import signals
from streamsim.answers import Cause
from streamsim.arrivals import Schedule
from streamsim.cli import parser
from streamsim.errors import SettingError
from streamsim.retries import RETRIED
from streamsim.run import Plan, run
from streamsim.scrapes import Scrape, scrape_of
from streamsim.summary import Summary
from streamsim.tally import Tally
from tests.needs import needed, needs
from tests.service_process import free_port
from tests.streamsim.fakes import CountingService, Silence, make_plan

pytestmark = pytest.mark.anyio
FAST = Schedule(200, 0.1, 0.1, cycles=2)  # 40 records in 0.3 s
ENDLESS = Schedule(20, 3600)
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
OURS = [metric for metric in signals.METRICS if metric.owner == "streamsim"]
Values = dict[tuple[str, ...], float]


class Watched:
    """A run that can be looked at, and what it came to once it has ended."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ended: list[Summary] = []

    async def look(self, headers: Mapping[str, str] = {}) -> str:
        """Scrape once, on a connection of its own."""
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(self.url, headers=headers) as answer,
        ):
            assert answer.status == 200
            return await answer.text()

    async def until(self, seen: Callable[[Values], bool]) -> Values:
        """Scrape until the values, by name and labels, are so; return them."""
        with anyio.fail_after(20):
            while True:
                try:
                    values = values_of(await self.look())
                except aiohttp.ClientConnectorError:
                    values = {}  # the run has not begun
                if values and seen(values):
                    return values
                await anyio.sleep(0.01)


def values_of(text: str) -> Values:
    """Each sample's value, by its name and its labels' values in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


@asynccontextmanager
async def watched(plan: Plan) -> AsyncIterator[Watched]:
    """Run the plan beside the block, with metrics on a free port; the run is cut off with the block."""
    port = free_port()
    this = Watched(f"http://127.0.0.1:{port}/metrics")
    shown: dict[str, Any] = {field: getattr(plan, field) for field in Plan.__slots__}

    async def go() -> None:
        this.ended.append(await run(Plan(**(shown | {"scrape": Scrape("127.0.0.1", port, "stream")})), Silence()))

    async with anyio.create_task_group() as group:
        group.start_soon(go)
        yield this
        group.cancel_scope.cancel()


async def summary_of(this: Watched) -> Summary:
    """Wait for the end."""
    with anyio.fail_after(20):
        while not this.ended:  # noqa: ASYNC110  a few times
            await anyio.sleep(0.01)
    return this.ended[0]


async def test_a_scrape_shows_what_the_summary_says(service: CountingService, tmp_path: Path):
    """Forty records, four of them not wanted, one asked for twice, a truth sent twice; the last is still under way."""
    last = anyio.Event()

    async def gate(path: str, number: int) -> web.Response | None:
        if path == "predict" and number % 10 == 0:
            return web.Response(status=422)
        if path == "predict" and number == 5:
            return web.Response(status=503)
        if path == "feedback" and number == 1:
            return web.Response(status=422)  # settled: the service does not want it
        if path == "feedback" and number == 2:
            return web.Response(status=500)
        if path == "feedback" and number == 37:  # 36 truths, one of them twice
            await last.wait()
        return None

    service.gate = gate
    async with watched(make_plan(service.url, tmp_path, FAST)) as this:
        await service.until(lambda: service.requests["feedback"] == 37)
        seen = await this.until(lambda values: values["streamsim_feedback_owed",] == 1)
        last.set()
        summary = await summary_of(this)
    totals = summary.totals
    assert seen["streamsim_planned_total",] == totals.planned == 40
    results = {key[1:]: value for key, value in seen.items() if key[0] == "streamsim_requests_total" and value}
    assert results == {
        ("predict", "ok"): totals.acknowledged,
        ("predict", "http_4xx"): totals.errors["http_4xx"],
        ("feedback", "ok"): totals.delivered["matched"] - 1,
        ("feedback", "http_4xx"): totals.delivered["rejected"],
        ("feedback", "http_5xx"): totals.retries["http_5xx"],
    }
    delivered = {key[1]: value for key, value in seen.items() if key[0] == "streamsim_feedback_delivered_total"}
    assert delivered == {"matched": 34, "rejected": 1, "duplicate": 0, "conflict": 0, "unknown": 0}
    assert seen["streamsim_feedback_due",] == seen["streamsim_in_flight", "feedback"] == 1
    assert {key[1:]: value for key, value in seen.items() if key[0] == "streamsim_retries_total" and value} == {
        ("feedback", "not_settled"): 1,
        ("predict", "http_503"): totals.prediction_retries["http_503"],
    }
    assert seen["streamsim_run_info", "stream"] == 1


async def test_the_histograms_count_what_the_summary_measured(service: CountingService, tmp_path: Path):
    """Both latencies of the same records, those of the truths, the lag of each record, and their maxima."""
    hold = anyio.Event()

    async def gate(path: str, number: int) -> None:
        if path == "feedback" and number == 40:
            await hold.wait()

    service.gate = gate
    async with watched(make_plan(service.url, tmp_path, FAST)) as this:
        seen = await this.until(lambda values: values["streamsim_feedback_delivered_total", "matched"] == 39)
        hold.set()
        timings = (await summary_of(this)).timings
    duration, lag = signals.SIM_REQUEST_DURATION.exposed, signals.SIM_SCHEDULE_LAG.exposed
    assert seen[f"{duration}_count", "planned", "predict"] == timings.from_planned.samples == 40
    assert seen[f"{duration}_count", "sent", "predict"] == timings.from_sent.samples == 40
    assert seen[f"{duration}_count", "sent", "feedback"] == 39
    assert seen[f"{lag}_count",] == timings.schedule_lag.samples == 40
    for name, labels, found in (
        (duration, ("planned", "predict"), timings.from_planned),
        (duration, ("sent", "predict"), timings.from_sent),
        (lag, (), timings.schedule_lag),
    ):
        # Each bucket below the largest value lacks at least one; each above it has all.
        assert found.max is not None
        for bound in signals.LATENCY_BUCKETS:
            if abs(bound * 1000 - found.max) > 0.01 * found.max:  # the summary rounds to three digits
                all_of_them = seen[f"{name}_bucket", *_sorted_labels(labels, bound)] == 40
                assert all_of_them is (bound * 1000 > found.max), bound


def _sorted_labels(labels: tuple[str, ...], bound: float) -> tuple[str, ...]:
    """Labels of a bucket as `values_of` has them: basis, call, le."""
    return (*labels, str(bound))


async def test_what_waits_is_shown(service: CountingService, tmp_path: Path):
    """Requests without an answer, by call; the rate that is planned."""

    async def hold(_path: str, _number: int) -> None:
        await anyio.sleep_forever()

    service.gate = hold
    async with watched(make_plan(service.url, tmp_path, ENDLESS, timeout=60)) as this:
        seen = await this.until(lambda values: values["streamsim_in_flight", "predict"] >= 3)
        assert seen["streamsim_target_rate",] == 20
        assert seen["streamsim_feedback_owed",] == 0
        assert seen["streamsim_in_flight", "feedback"] == 0


async def test_between_bursts_nothing_is_planned(service: CountingService, tmp_path: Path):
    """And truths are owed that are not yet due."""
    pause = Schedule(200, 0.05, 3600)
    async with watched(make_plan(service.url, tmp_path, pause, feedback_delay=3600)) as this:
        seen = await this.until(lambda values: values["streamsim_feedback_owed",] == 10)
        await this.until(lambda values: values["streamsim_target_rate",] == 0)
        assert seen["streamsim_feedback_due",] == 0


async def test_a_run_has_every_declared_metric_before_anything_has_happened(service: CountingService, tmp_path: Path):
    """Name, kind, help, labels and buckets; counters stand at 0 for whatever may happen, so that a rise is seen."""

    async def hold(_path: str, _number: int) -> None:
        await anyio.sleep_forever()

    service.gate = hold
    async with watched(make_plan(service.url, tmp_path, ENDLESS, timeout=60)) as this:
        await this.until(bool)
        families: dict[str, Family] = {family.name: family for family in parse(await this.look())}
    assert {name for name in families if not name.startswith("process_")} == {
        metric.exposed.removesuffix("_total") for metric in OURS
    }
    for metric in OURS:
        family = families[metric.exposed.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert {frozenset(set(sample.labels) - {"le"}) for sample in family.samples} == {frozenset(metric.attributes)}
        bounds = {float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels}
        assert bounds == ({*metric.buckets, float("inf")} if metric.buckets else set())
    results = {(sample.labels["call"], sample.labels["result"]) for sample in families["streamsim_requests"].samples}
    assert results == {(call, str(cause)) for call in ("predict", "feedback") for cause in Cause}
    tried_again = {(sample.labels["call"], sample.labels["reason"]) for sample in families["streamsim_retries"].samples}
    assert tried_again == {
        *(("predict", "stale_connection"), ("feedback", "stale_connection"), ("feedback", "not_settled")),
        *(("predict", cause) for cause in RETRIED),
    }
    assert {"process_cpu_seconds", "process_resident_memory_bytes"} <= set(families)


@needs("promtool")
async def test_promtool_has_nothing_to_say(service: CountingService, tmp_path: Path):
    """Names, units and types are as Prometheus wants them."""
    async with watched(make_plan(service.url, tmp_path, ENDLESS)) as this:
        await this.until(lambda values: values["streamsim_planned_total",] >= 3)
        text = await this.look()
    checked = subprocess.run(  # noqa: ASYNC221  nothing else has to go on
        [needed("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_exemplars_lead_to_the_traces_that_the_service_was_asked_for(service: CountingService, tmp_path: Path):
    """In OpenMetrics: on all three durations, none of them of an untraced record."""
    async with watched(make_plan(service.url, tmp_path, Schedule(200, 3600))) as this:
        await this.until(lambda values: values["streamsim_feedback_delivered_total", "matched"] >= 50)
        families = {family.name: family for family in parse_openmetrics(await this.look(OPENMETRICS))}
        samples = families[signals.SIM_REQUEST_DURATION.exposed].samples
        sent = [*service.traceparents, *service.feedback_traceparents]
    traced = {tuple(each.split("-")[1:3]) for each in sent if each.endswith("-01")}
    found = [sample for sample in samples if sample.exemplar is not None]
    assert {(sample.labels["call"], sample.labels["basis"]) for sample in found} == {
        *(("predict", "planned"), ("predict", "sent"), ("feedback", "sent")),
    }
    for sample in found:
        ids = sample.exemplar.labels
        assert (ids["trace_id"], ids["span_id"]) in traced


async def test_a_port_that_is_taken_is_told_in_one_line_and_the_run_goes_on(
    service: CountingService, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Address, reason, and the option that helps; nothing is counted for nobody."""
    port, tally = free_port(), Tally()
    plan = make_plan(service.url, tmp_path, FAST, scrape=Scrape("127.0.0.1", port, "stream"))
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port):
        summary = await run(plan, Silence(), tally=tally)
    assert summary.totals.delivered == {"matched": 40}
    assert capsys.readouterr().err == (
        f"streamsim: no metrics on 127.0.0.1:{port}: Address already in use; "
        "--metrics-port takes another port, or 0 for none\n"
    )
    assert tally.buckets is None


@pytest.mark.slow
async def test_whoever_still_listens_at_the_end_does_not_hold_it_up(service: CountingService, tmp_path: Path):
    """An idle connection and one in the middle of its request are closed."""
    plan = make_plan(service.url, tmp_path, FAST, feedback_delay=1.0)
    async with watched(plan) as this:
        await this.until(bool)
        port = int(this.url.split(":")[2].partition("/")[0])
        async with (
            await anyio.connect_tcp("127.0.0.1", port) as idle,
            await anyio.connect_tcp("127.0.0.1", port) as half,
        ):
            await idle.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await idle.receive()).startswith(b"HTTP/1.1 200")
            await half.send(b"GET /metrics HTTP/1.1\r\nHo")
            await summary_of(this)
        with pytest.raises(OSError, match="attempts"):
            await anyio.connect_tcp("127.0.0.1", port)


def options(*arguments: str) -> argparse.Namespace:
    """Parsed options of `stream`."""
    return parser().parse_args(["stream", *arguments])


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ([], {}, Scrape("127.0.0.1", 9464, "stream")),
        (["--metrics-port", "0"], {}, None),
        (["--metrics-port", "9999", "--metrics-host", "0.0.0.0"], {}, Scrape("0.0.0.0", 9999, "stream")),  # noqa: S104
        ([], {"OTEL_EXPORTER_PROMETHEUS_PORT": "0"}, None),
        ([], {"OTEL_EXPORTER_PROMETHEUS_PORT": " "}, Scrape("127.0.0.1", 9464, "stream")),
        (
            ["--metrics-port", "9999"],
            {"OTEL_EXPORTER_PROMETHEUS_PORT": "9998", "OTEL_EXPORTER_PROMETHEUS_HOST": "::1"},
            Scrape("::1", 9999, "stream"),
        ),
    ],
)
def test_the_address_is_that_of_the_options_else_of_the_environment(
    arguments: list[str], environ: dict[str, str], expected: Scrape | None
):
    """By OpenTelemetry's own variables; port 0 is none."""
    assert scrape_of(options(*arguments), environ) == expected


@pytest.mark.parametrize("text", ["-1", "65536", "none", "9464.0", "٣"])
def test_a_wrong_port_in_the_environment_is_named(text: str):
    """With what is accepted."""
    with pytest.raises(SettingError, match=r"OTEL_EXPORTER_PROMETHEUS_PORT=.*expected a port up to 65535, or 0"):
        scrape_of(options(), {"OTEL_EXPORTER_PROMETHEUS_PORT": text})


async def test_without_a_port_nothing_listens(service: CountingService, tmp_path: Path):
    """And nothing is counted for a scrape."""
    tally = Tally()
    await run(make_plan(service.url, tmp_path, FAST), Silence(), tally=tally)
    assert tally.buckets is None


@pytest.mark.parametrize(
    ("mode", "load"),
    [("stream", ("--rps", "100", "--on", "600")), ("stress", ("100", "--duration", "600"))],
)
async def test_both_commands_show_metrics(
    service: CountingService, csv: Path, tmp_path: Path, mode: str, load: tuple[str, ...]
):
    """A process of its own, scraped on the port that it was given, and stopped."""
    this = Watched(f"http://127.0.0.1:{(port := free_port())}/metrics")
    command = [sys.executable, "-m", "streamsim", mode, *load, "--url", service.url, "--data", str(csv)]
    async with await anyio.open_process([*command, "--metrics-port", str(port)], cwd=tmp_path) as process:
        try:
            seen = await this.until(lambda values: values["streamsim_requests_total", "predict", "ok"] >= 10)
        finally:
            process.terminate()
            with anyio.fail_after(20):
                await process.wait()
    assert seen["streamsim_run_info", mode] == 1
    assert seen["streamsim_target_rate",] == 100

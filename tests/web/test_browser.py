"""The page as a person sees it: in Chromium, on a phone and on a desktop, light and dark, empty and full."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Workshop
from tests.http.test_schema import WORKOUT
from tests.needs import needs
from tests.service_process import ROOT, ServiceProcess, free_port, service_process
from tests.web.chromium import Tab, chromium

pytestmark = needs("chromium")

LIVE = "document.documentElement.dataset.link === 'live'"
VIEWS = [(width, scheme) for width in (390, 1440) for scheme in ("light", "dark")]
SHOWN = {
    "predictions": ("calsvc_predictions_total", {}, 0, 1),
    "rmsle": ("calsvc_quality_rmsle", {}, 4, 1),
    "mae_kcal": ("calsvc_quality_mae_kcal", {}, 2, 1),
    "labels": ("calsvc_quality_window_samples", {}, 0, 1),
    "training_rmsle": ("calsvc_model_training_rmsle", {}, 4, 1),
    "coverage_matured": ("calsvc_feedback_coverage_ratio", {"basis": "matured"}, 1, 100),
    "coverage_window": ("calsvc_feedback_coverage_ratio", {"basis": "window"}, 1, 100),
    "pending": ("calsvc_pending_predictions", {}, 0, 1),
    "replaced": ("calsvc_predictions_replaced_total", {}, 0, 1),
    **{
        outcome: ("calsvc_feedback_total", {"outcome": outcome}, 0, 1)
        for outcome in ("matched", "duplicate", "conflict", "unknown")
    },
}
"""By field of the page: the metric that says the same, its labels, digits shown, and the factor of the unit."""
DASH = "\N{EN DASH}"
BIG = "[...document.querySelectorAll('.tiles b')].map((each) => each.textContent)"


@pytest.fixture
def service(workshop: Workshop, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service whose labels are due after a second."""
    with service_process(tmp_path, workshop.environ() | {"CALSVC_FEEDBACK_DELAY": "1"}) as service:
        yield service


def look(scenario: Callable[[Tab], Awaitable[None]]) -> None:
    """Run a scenario in a browser of its own."""

    async def run() -> None:
        async with chromium() as tab:
            await scenario(tab)

    asyncio.run(run())


async def each_view(tab: Tab, url: str) -> None:
    """Look at the page in every view: no complaint, no other host, nothing to scroll sideways."""
    for width, scheme in VIEWS:
        await tab.open(url, width, scheme)
        await tab.until(LIVE)
        await tab.until("document.querySelectorAll('.plot canvas').length === 6")
        assert await tab.evaluate("innerWidth") == width
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        assert await tab.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
        wide = (
            "[...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right > innerWidth)"
        )
        assert await tab.evaluate(f"{wide}.length") == 0
    assert tab.complaints == []
    assert {each.split("/")[2] for each in tab.loaded} == {url.split("/")[2]}


def fill(service: ServiceProcess) -> None:
    """A burst of predictions, and feedback of every outcome."""
    for number in range(40):
        assert service.call("/predict", WORKOUT | {"id": number, "Duration": 5 + number / 2})[0] == 200
    for number in range(30):
        assert service.call("/feedback", {"id": number, "Calories": 50 + 3 * number})[0] == 200
    assert service.call("/feedback", {"id": 0, "Calories": 50})[0] == 200
    assert service.call("/feedback", {"id": 1, "Calories": 1})[0] == 409
    assert service.call("/feedback", {"id": 4711, "Calories": 1})[0] == 404


def metrics(service: ServiceProcess) -> Mapping[str, float]:
    """By field of the page: what /metrics says."""
    samples = [
        sample
        for family in text_string_to_metric_families(service.call("/metrics")[2].decode())
        for sample in family.samples
    ]
    found = {}
    for field, (name, labels, _, factor) in SHOWN.items():
        values = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
        if values:
            found[field] = factor * values[0]
    return found


def test_an_empty_page_says_what_to_type(service: ServiceProcess):
    """A dash where nothing is known, the command for this very service, and when labels come."""

    async def scenario(tab: Tab) -> None:
        await each_view(tab, service.url)
        assert await tab.evaluate(BIG) == ["0.0", DASH, "0", "0", DASH, DASH, DASH, DASH]
        command = await tab.evaluate("document.getElementById('command').textContent")
        assert command == f"just stream --rps 20 --on 5 --off 25 --url {service.url}"
        hint = await tab.evaluate("document.getElementById('hint').innerText")
        assert "1 s" in hint
        assert "CALSVC_FEEDBACK_DELAY" in hint
        assert await tab.evaluate("document.querySelectorAll('.plot.empty').length") == 4
        assert await tab.evaluate("document.getElementById('challenger').hidden")

    look(scenario)


def test_a_full_page_shows_what_metrics_say(service: ServiceProcess):
    """After a burst with feedback every number equals that of a scrape, to the digits shown."""
    fill(service)

    async def scenario(tab: Tab) -> None:
        await tab.open(service.url, 1440, "light")
        await tab.until(f"{LIVE} && document.querySelector('[data-show=coverage_matured]').textContent === '75.0'")
        expected = await asyncio.to_thread(metrics, service)
        assert set(expected) >= set(SHOWN) - {"training_rmsle"}
        for field, value in expected.items():
            texts = await tab.evaluate(
                f"[...document.querySelectorAll('[data-show={field}]')].map((each) => each.textContent)"
            )
            digits = SHOWN[field][2]
            for text in texts:
                assert abs(float(text.replace(",", "")) - value) <= 0.51 * 10**-digits, (field, text, value)
                assert len(text.partition(".")[2]) == digits
        assert await tab.evaluate("document.getElementById('hint').hidden && document.getElementById('wait').hidden")
        assert await tab.evaluate("document.querySelectorAll('.plot.empty').length") == 0
        await each_view(tab, service.url)

    look(scenario)


def test_a_chart_can_be_read_without_a_mouse(service: ServiceProcess):
    """Arrow keys move through the minutes; the chart says its values as text; colours follow the system's scheme."""
    fill(service)

    async def scenario(tab: Tab) -> None:
        await tab.open(service.url, 1440, "light")
        await tab.until(f"{LIVE} && document.querySelector('[data-show=matched]').textContent === '30'")
        chart = "document.querySelector('[data-chart=rmsle] .plot')"
        assert "live 0." in await tab.evaluate(f"{chart}.getAttribute('aria-label')")
        await tab.evaluate(f"{chart}.focus()")
        key = {"key": "Home", "code": "Home", "windowsVirtualKeyCode": 36}
        await tab.call("Input.dispatchKeyEvent", type="keyDown", **key)
        await tab.until(f"{chart}.getAttribute('aria-label').includes('live {DASH}')")
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        await tab.call("Emulation.setEmulatedMedia", features=dark)
        await tab.until("matchMedia('(prefers-color-scheme: dark)').matches")
        await tab.until("document.querySelectorAll('.plot canvas').length === 6")
        assert tab.complaints == []

    look(scenario)


def test_the_page_comes_back_by_itself(workshop: Workshop, tmp_path: Path):
    """The service restarts, with nothing of before: the open page says that it waits, then shows the new one."""
    environ = workshop.environ() | {"CALSVC_PORT": str(free_port()), "CALSVC_DRAIN_DELAY": "0.1"}

    async def scenario(tab: Tab) -> None:
        with serving(environ, tmp_path) as first:
            await asyncio.to_thread(first.wait_until, "/readyz", 200)
            await asyncio.to_thread(first.call, "/predict", WORKOUT)
            await tab.open(first.url, 390, "light")
            await tab.until(f"{LIVE} && document.querySelector('[data-show=predictions]').textContent === '1'")
            await tab.evaluate("window.before = 1")
            assert await asyncio.to_thread(first.stop) == 0
            await tab.until("document.getElementById('status').textContent === 'connection lost'")
            await tab.until("/^, data [1-9][0-9]* s old$/.test(document.getElementById('age').textContent)")
            assert await tab.evaluate("document.querySelector('[data-show=predictions]').textContent") == "1"
            assert await tab.evaluate("document.documentElement.scrollWidth") <= 390
        with serving(environ, tmp_path):
            await tab.until(f"{LIVE} && document.querySelector('[data-show=predictions]').textContent === '0'")
            assert await tab.evaluate("window.before") == 1
            assert await tab.evaluate("document.getElementById('age').textContent") == ""

    look(scenario)


@contextmanager
def serving(environ: Mapping[str, Any], folder: Path) -> Iterator[ServiceProcess]:
    """A service on a port that was chosen before."""
    command = [sys.executable, "-m", "calsvc"]
    with (folder / "again.log").open("w+b") as log:
        process = subprocess.Popen(command, env=os.environ | environ, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield ServiceProcess(process, int(environ["CALSVC_PORT"]), log)
        finally:
            process.kill()
            process.wait()

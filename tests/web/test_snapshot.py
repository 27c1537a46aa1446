"""What the page shows, from what was put in: the clock stands still until a test moves it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calsvc.web.sampler import Sampler
from calsvc.web.snapshot import SHORT, Snapshot, quantile
from tests.test_app import Service, running

MILLISECOND = 0.001


class Watched(Service):
    """A service, and a sampler of its own that looks when the test says so."""

    def __init__(self, bundle: Path, **settings: Any) -> None:
        super().__init__(bundle, **settings)
        self.sampler = Sampler(self.state, lambda: 1e9 + self.clock.now)
        self.seen: list[Snapshot] = []
        self.sampler.feed.publish = self.seen.append  # type: ignore[method-assign] - what would be encoded

    def look(self, after: float = 1.0) -> Snapshot:
        """Let time pass, then look."""
        self.clock.now += after
        assert self.client.portal is not None
        self.client.portal.call(self.sampler.sample)
        return self.seen[-1]

    def takes(self, seconds: float, times: int = 1) -> None:
        """Count answered predictions of a known duration."""
        durations = self.state.meters.request_duration.labels("/predict", "POST", "200", "http", "")
        for _ in range(times):
            durations.observe(seconds)


@pytest.fixture
def service(bundle: Path) -> Iterator[Watched]:
    """A service with the default settings."""
    service = Watched(bundle)
    with service.client as client:
        assert client.portal is not None
        client.portal.call(service.lifecycle.wait_ready)
        yield service
    service.telemetry.shutdown()


def test_without_data_there_is_nothing_and_not_0(service: Watched):
    """What nothing is known of is None; what was counted, and is none, is 0."""
    first, second = service.look(), service.look()
    assert first.requests_per_s is None
    assert second.requests_per_s == 0
    for name in ("p50_ms", "p99_ms", "minute_p95_ms", "rmsle", "mae_kcal", "labels", "lag_s", "alias"):
        assert getattr(second, name) is None, name
    assert (second.coverage_matured, second.coverage_window, second.challenger_version) == (None, None, None)
    assert (second.predictions, second.pending, second.matched, second.unknown) == (0, 0, 0, 0)


def test_rates_are_differences_over_their_time(service: Watched):
    """The header's rate is over ten seconds, each point of the chart over one."""
    service.look()
    for number in range(6):
        service.predict(id=number)
    service.feedback(99, 1.0)
    now = service.look(after=2.0)
    assert (now.predict_per_s, now.feedback_per_s, now.errors_per_s, now.requests_per_s) == (3.0, 0.5, 0.5, 3.5)
    later = service.look(after=5.0)
    assert (later.predict_per_s, later.requests_per_s) == (0.0, 1.0)
    service.look(after=SHORT)
    assert service.look(after=1.0).requests_per_s == 0.0


def test_percentiles_are_of_the_last_ten_seconds_and_of_the_last_minute(service: Watched):
    """What was slow a while ago leaves the short window first, then the long one."""
    service.look()
    service.takes(80 * MILLISECOND, times=10)
    now = service.look()
    assert (now.p50_ms, now.p99_ms) == (87.5, 99.75)  # evenly spread between 75 and 100
    assert now.minute_p50_ms == now.p50_ms
    for _ in range(11):
        service.takes(3 * MILLISECOND, times=1)
        now = service.look()
    assert (now.p50_ms, now.minute_p95_ms) == (3.75, 97.375)
    for _ in range(60):
        now = service.look()
    assert (now.p50_ms, now.minute_p95_ms) == (None, None)


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((0, 0, 0), 0.5, None),
        ((7, 0, 0), 0.5, 1.0),  # somewhere below the first bound: which is all that is known
        ((0, 4, 0), 0.5, 1.5),
        ((5, 4, 1), 0.99, 2.0),  # above the last bound
        ((5, 5, 0), 0.5, 1.0),
    ],
)
def test_a_quantile_is_read_off_the_buckets(counts: tuple[int, ...], q: float, expected: float | None):
    """As Prometheus reads it, but for the first bucket."""
    assert quantile((1.0, 2.0), counts, q) == expected


def test_quality_is_what_metrics_say(service: Watched):
    """RMSLE, MAE, their n, both coverages, pending and outcomes are the numbers of a scrape."""
    for number in (*range(8), 0, 7):
        service.predict(id=number, Duration=5 + number)
    service.clock.now += 300
    for number in range(6):
        service.feedback(number, 60.0 + number)
    service.feedback(0, 60.0)
    service.feedback(1, 1.0)
    service.feedback(100, 1.0)
    now, numbers = service.look(after=2.0), service.numbers()
    assert now.rmsle == pytest.approx(numbers["calsvc_quality_rmsle", "champion"], abs=1e-6)
    assert now.mae_kcal == pytest.approx(numbers["calsvc_quality_mae_kcal", "champion"], abs=1e-4)
    assert now.labels == numbers["calsvc_quality_window_samples", "champion"] == 6
    assert now.coverage_matured == numbers["calsvc_feedback_coverage_ratio", "matured"] == 0.75
    assert now.coverage_window == numbers.get(("calsvc_feedback_coverage_ratio", "window"))
    assert now.pending == numbers["calsvc_pending_predictions",] == 2
    assert (now.matched, now.duplicate, now.conflict, now.unknown) == (6, 1, 1, 1)
    assert (now.predictions, now.replaced) == (10, 2)
    assert now.replaced == numbers["calsvc_predictions_replaced_total",]


def test_lag_is_that_of_the_last_minute(service: Watched):
    """The mean time from prediction to truth; nothing when a minute has passed without."""
    service.look()
    service.predict(id=1)
    service.clock.now += 300.5
    service.feedback(1, 100.0)
    now = service.look(after=0.5)
    assert now.lag_s == 300.5
    for _ in range(61):
        now = service.look()
    assert now.lag_s is None


def test_it_names_the_model(service: Watched):
    """Version, engine, alias and the training's RMSLE are those of /info."""
    now, told = service.look(), service.client.get("/info").json()
    model = told["model"]
    assert (now.model_version, now.engine, now.alias) == (model["version"], model["engine"], model["alias"])
    assert now.serving_since == model["serving_since"]
    assert now.training_rmsle == pytest.approx(model["training_metrics"]["valid_rmsle"], abs=1e-6)
    assert now.phase == told["phase"] == "ready"
    assert now.at == 1e9 + service.clock.now


def request_series(service: Service) -> list[str]:
    """The lines of a scrape about requests."""
    scraped = service.client.get("/metrics").text.splitlines()
    return [line for line in scraped if line.startswith("http_server_request_duration_seconds")]


def test_looking_leaves_no_trace_in_the_metrics(service: Watched):
    """No series begins to exist because somebody looks for it."""
    before = request_series(service)
    service.look()
    assert request_series(service) == before


def test_the_page_is_not_in_the_request_metrics(bundle: Path):
    """Who watches is not counted among those who ask."""
    for service in running(bundle):
        before = request_series(service)
        for path in ("/", "/static/page.js", "/static/uPlot.iife.min.js"):
            assert service.client.get(path).status_code == 200
        assert service.client.head("/events").status_code == 200
        assert request_series(service) == before

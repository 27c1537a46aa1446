"""What a run has counted, as Prometheus wants it: read from the tally when somebody scrapes, never before."""

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import product
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from observability import signals
from observability.instruments import create_histogram
from streamsim.answers import Cause
from streamsim.feedback import DEFINITIVE
from streamsim.retries import RETRIED
from streamsim.scrapes import Mode, Scrape, Source, refusal
from streamsim.summary import Now
from streamsim.tally import Buckets, Tally, Totals

Family = CounterMetricFamily | GaugeMetricFamily
Counts = Mapping[tuple[str, ...], float]
CALLS: Final = ("predict", "feedback")
ANSWERED_OK: Final = ("matched", "duplicate")
STATUSES: Final = (*ANSWERED_OK, *DEFINITIVE.values())


@asynccontextmanager
async def serving(scrape: Scrape, tally: Tally, source: Source) -> AsyncIterator[None]:
    """Serve `/metrics` of a run on its own event loop. A port that cannot be had is told of, and nothing is counted."""
    registry, buckets = open_metrics(scrape.mode, source)
    # At the end nobody is waited for: a scrape takes a millisecond, and the next one would come too late anyway.
    runner = web.AppRunner(_app(registry), access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, scrape.host, scrape.port).start()
            tally.buckets = buckets
        except OSError as error:
            print(refusal(scrape, error), file=sys.stderr)
        yield
    finally:
        await runner.cleanup()


def _app(registry: CollectorRegistry) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        encode, media_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": media_type})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


def open_metrics(mode: Mode, source: Source) -> tuple[CollectorRegistry, Buckets]:
    """Make the registry that is scraped, and the buckets that the run has to fill."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series per histogram, of no use here
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(RunCollector(mode, source))
    duration = create_histogram(registry, signals.SIM_REQUEST_DURATION)
    lag = create_histogram(registry, signals.SIM_SCHEDULE_LAG)
    buckets = Buckets(
        from_planned=duration.labels("predict", "planned"),
        from_sent=duration.labels("predict", "sent"),
        schedule_lag=lag,
        feedback=duration.labels("feedback", "sent"),
    )
    return registry, buckets


class RunCollector(Collector):
    """Every counter and gauge of one run. What has not happened yet is 0, so that its first time is seen as a rise."""

    def __init__(self, mode: Mode, source: Source) -> None:
        self._mode = mode
        self._source = source

    def collect(self) -> Iterator[Family]:
        """Yield the families for a scrape."""
        now = self._source()
        totals = now.totals
        yield _family(signals.SIM_PLANNED, {(): totals.planned})
        yield _family(signals.SIM_REQUESTS, requests(totals))
        in_flight: Counts = {("predict",): totals.in_flight, ("feedback",): now.deliveries.in_flight}
        yield _family(signals.SIM_IN_FLIGHT, in_flight)
        yield _family(signals.SIM_TARGET_RATE, {(): now.planned_rate})
        yield _family(signals.SIM_OWED, {(): totals.owed})
        yield _family(signals.SIM_DUE, {(): now.deliveries.due})
        yield _family(signals.SIM_DELIVERED, {(status,): totals.delivered.get(status, 0) for status in STATUSES})
        yield _family(signals.SIM_GIVEN_UP, {(): sum(totals.given_up.values())})
        yield _family(signals.SIM_RETRIES, retries(now))
        yield _family(signals.SIM_RUN_INFO, {(self._mode,): 1})


def requests(totals: Totals) -> Counts:
    """Count predictions and deliveries by what became of them.

    A record counts once, by what became of it in the end, however often it was asked for. A delivery that settles a
    truth is `ok` or, where the service does not know or want it, `http_4xx`; after any other it is tried again or given
    up.
    """
    counted: dict[tuple[str, ...], float] = {(call, str(cause)): 0 for call, cause in product(CALLS, Cause)}
    counted |= {("predict", cause): count for cause, count in totals.errors.items()}
    counted["predict", Cause.OK] = totals.acknowledged
    counted["predict", Cause.NOT_SENT] = totals.not_sent
    for failed in (totals.retries, totals.given_up):
        for cause, count in failed.items():
            counted["feedback", cause] += count
    for status, count in totals.delivered.items():
        counted["feedback", Cause.OK if status in ANSWERED_OK else Cause.HTTP_4XX] += count
    return counted


def retries(now: Now) -> Counts:
    """Count requests to be sent again, by the reason."""
    tried = now.totals.prediction_retries
    return {
        **{("predict", str(cause)): tried.get(cause, 0) for cause in RETRIED},
        **{(call, "stale_connection"): now.resent_to.get(f"/{call}", 0) for call in CALLS},
        ("feedback", "not_settled"): sum(now.totals.retries.values()),
    }


def _family(metric: signals.Metric, counts: Counts) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: Family = kind(metric.exposed, metric.help, labels=metric.attributes)
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family

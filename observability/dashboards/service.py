"""The dashboard Service: is it there, does it answer, how fast, and what does that cost."""

from typing import Final

from observability import signals
from observability.dashboards import promql
from observability.dashboards.boards import Board, Limit, Panel, Query, Section
from observability.dashboards.datasources import CPU, FAILED_TRACES, SLOW_TRACES, WARNINGS
from observability.dashboards.process import PROCESS, RUNNING
from observability.dashboards.promql import ANSWERED, CALLS, of, rate, recorded, requests, total, with_route

AVAILABILITY: Final = ("CalsvcAvailabilityBudgetBurn",)
LATENCY: Final = ("CalsvcLatencyBudgetBurn",)
P99: Final = recorded("calsvc:latency_seconds:5m", CALLS, 'quantile="0.99"')

GLANCE: Final = Section(
    "At a glance, all replicas, last five minutes",
    (
        Panel(
            "Requests",
            "Predictions and feedback per second. Normal: with the simulator's bursts (20 a second, 5 s on, 25 s off) "
            "3.3, and twice that once labels come.",
            "reqps",
            (Query(total(recorded("calsvc:request_rate:5m", CALLS)), "requests"),),
            kind="stat",
            width=4,
            no_data="Nobody has called yet",
        ),
        Panel(
            "Slowest percent",
            "p99 of the answers, of the slower of the two calls. Normal: a few milliseconds; the SLO is 50 ms for 99 "
            "%.",
            "s",
            (Query(f"max({P99})", "p99"),),
            kind="stat",
            width=4,
            no_data="Nobody has called lately",
            limit=Limit(0.05),
            alerts=LATENCY,
            links=(SLOW_TRACES,),
        ),
        Panel(
            "Failed or refused",
            "Share of the calls that were answered with 5xx, refusals (503) among them. Normal: 0; the SLO allows 0.5 "
            "%.",
            "percentunit",
            (Query("calsvc:unavailable_ratio:5m", "5xx"),),
            kind="stat",
            width=4,
            no_data="Nobody has called lately",
            limit=Limit(0.005),
            alerts=AVAILABILITY,
            links=(FAILED_TRACES,),
        ),
        Panel(
            "Too slow",
            "Share of the answers that took more than 50 ms. Normal: 0; the SLO allows 1 %.",
            "percentunit",
            (Query("calsvc:slow_ratio:5m", "over 50 ms"),),
            kind="stat",
            width=4,
            no_data="Nobody has called lately",
            limit=Limit(0.01),
            alerts=LATENCY,
            links=(SLOW_TRACES,),
        ),
        Panel(
            "Replicas up",
            "Processes that answer Prometheus. Normal: as many as were started.",
            "short",
            (Query(total(of("up")), "up"),),
            kind="stat",
            width=4,
            no_data="Prometheus knows no replica",
            limit=Limit(1, "below"),
            alerts=("CalsvcTargetDown", "CalsvcTargetsMissing"),
        ),
        Panel(
            "Alerts that fire",
            "Normal: none. The table at the bottom names them.",
            "short",
            (Query('count(ALERTS{alertname=~"Calsvc.+", alertstate="firing"}) or vector(0)', "firing"),),
            kind="stat",
            width=4,
            limit=Limit(1),
        ),
    ),
)
REQUESTS: Final = Section(
    "Requests",
    (
        Panel(
            "Requests by route and status",
            "What came in, and how it was answered. "
            "Normal: 200, and the odd 404 for feedback on a record that nobody predicted.",
            "reqps",
            (
                Query(
                    with_route(total(requests(), "http_route", "http_response_status_code")),
                    "{{http_route}} {{http_response_status_code}}",
                ),
            ),
            width=6,
            no_data="Nobody has called yet",
            links=(FAILED_TRACES,),
        ),
        Panel(
            "Error ratio",
            "Share of each route's requests that was answered with 5xx, all replicas, over five minutes. "
            "Normal: 0; the line is what the SLO allows.",
            "percentunit",
            (Query(with_route("calsvc:error_ratio:5m"), "{{http_route}}"),),
            width=6,
            no_data="Nobody has called lately",
            limit=Limit(0.005),
            alerts=AVAILABILITY,
            links=(FAILED_TRACES, WARNINGS),
        ),
        Panel(
            "Refused",
            "Requests that got 503: more were waiting than CALSVC_MAX_IN_FLIGHT, or the replica is not ready. Normal: "
            "0.",
            "reqps",
            (
                Query(
                    total(requests('http_response_status_code="503"'), "http_route", "instance"),
                    "{{http_route}} {{instance}}",
                ),
            ),
            width=6,
            alerts=("CalsvcRequestsRefused",),
        ),
        Panel(
            "In flight, on average",
            "There is no gauge of it: by Little's law it is the seconds that requests spent in the service, per "
            "second. Normal: far below 1; at 1 the event loop has no pause.",
            "short",
            (Query(total(rate(of(signals.REQUEST_DURATION, CALLS, part="_sum")), "instance"), "{{instance}}"),),
            width=6,
            limit=Limit(1),
        ),
    ),
)
SPEED: Final = Section(
    "Latency",
    (
        Panel(
            "Latency",
            "Of the answers to predictions and feedback, failures left out. Each dot is one request that was traced: "
            "click it, then the button to its trace. Normal: p50 under 1 ms, p99 a few milliseconds.",
            "s",
            promql.quantiles(signals.REQUEST_DURATION, CALLS, ANSWERED, exemplars=True),
            limit=Limit(0.05),
            no_data="Nobody has called lately",
            alerts=LATENCY,
            links=(SLOW_TRACES, CPU),
        ),
        Panel(
            "Latency, all of it",
            "How many answers took how long; the brighter, the more. The dots lead to traces. "
            "Normal: one bright band. A second band is a second way through the code.",
            "s",
            (promql.heatmap(signals.REQUEST_DURATION, CALLS, ANSWERED, exemplars=True),),
            kind="heatmap",
            no_data="Nobody has called lately",
            links=(SLOW_TRACES,),
        ),
        Panel(
            "p99 by route",
            "All replicas, over five minutes. Normal: a prediction takes longer than feedback, both a few "
            "milliseconds.",
            "s",
            (Query(P99, "{{http_route}}"),),
            limit=Limit(0.05),
            no_data="Nobody has called lately",
            alerts=LATENCY,
            links=(SLOW_TRACES,),
        ),
    ),
)
BOARD: Final = Board(
    "service",
    "calsvc: Service",
    "Is it there, does it answer, how fast, and what does that cost.",
    (promql.JOB, promql.INSTANCE),
    (GLANCE, REQUESTS, SPEED, PROCESS, RUNNING),
)

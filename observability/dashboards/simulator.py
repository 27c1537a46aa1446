"""The dashboard Simulator: what the service sees of the one who sends records and, later, their truth.

The simulator itself exposes no metrics. What only it can know, the requests that never arrived, the time they took on
the client's side and the truths it still owes, is in its own report.
"""

from typing import Final

from observability import signals
from observability.dashboards import promql
from observability.dashboards.boards import Board, Limit, Panel, Query, Section, Variable
from observability.dashboards.datasources import FAILED_TRACES, SLOW_TRACES
from observability.dashboards.promql import ANSWERED, CHAMPION, of, quantile, rate, requests, total

PREDICT: Final = 'http_route="/predict"'
TRUTH: Final = 'http_route="/feedback"'
DUE: Final = Variable("due", "A label is due after, s", "300", kind="text")
NO_TRUTH: Final = "No label came lately"
PREDICTED: Final = rate(of(signals.PREDICTIONS, CHAMPION))
MATCHED: Final = rate(of(signals.FEEDBACK, 'outcome="matched"'))


def share(part: str, whole: str) -> str:
    """`part` of `whole`: 0 where there is none of it, no series where there is nothing at all."""
    return f"({total(part)} or 0 * {total(whole)}) / ({total(whole)} > 0)"


GLANCE: Final = Section(
    "At a glance",
    (
        Panel(
            "Offered",
            "Records per second that arrived, however they were answered, over a minute at least. Normal: the "
            "simulator's --rps times the share of time that is burst.",
            "reqps",
            (Query(total(requests(PREDICT)), "offered"),),
            kind="stat",
            width=6,
            no_data="Nothing yet: just stream --rps 20 --on 5 --off 25",
        ),
        Panel(
            "Answered with a prediction",
            "Share of the offered records that got 200. Normal: 100 %.",
            "percentunit",
            (Query(share(requests(PREDICT, 'http_response_status_code="200"'), requests(PREDICT)), "200"),),
            kind="stat",
            width=6,
            no_data="Nothing is offered now",
            limit=Limit(0.995, "below"),
            alerts=("CalsvcAvailabilityBudgetBurn",),
        ),
        Panel(
            "Truths that found their prediction",
            "Share of the feedback that was matched. Normal: 100 %. Less: sent twice, or for records that were not "
            "predicted here.",
            "percentunit",
            (Query(share(MATCHED, rate(of(signals.FEEDBACK))), "matched"),),
            kind="stat",
            width=6,
            no_data=NO_TRUTH,
            limit=Limit(0.9, "below"),
        ),
        Panel(
            "Truths owed",
            "Predictions that still wait. Normal: 0, some minutes after the simulator has ended.",
            "short",
            (Query(total(of(signals.PENDING)), "owed"),),
            kind="stat",
            width=6,
        ),
    ),
)
OFFERED: Final = Section(
    "Records",
    (
        Panel(
            "Offered records by answer",
            "An open loop sends on when answers get slow, so this is the schedule. Normal: waves, as the rate is "
            "taken over a minute at least; all of them 200.",
            "reqps",
            (Query(total(requests(PREDICT), "http_response_status_code"), "{{http_response_status_code}}"),),
            width=12,
            no_data="Nothing yet: just stream --rps 20 --on 5 --off 25",
            stacked=True,
            links=(FAILED_TRACES,),
        ),
        Panel(
            "Predictions and their latency in the service",
            "From a request's arrival to the end of its answer. The simulator's own figures are higher by the "
            "network, the client, and the time a record waited for a connection. Normal: p99 a few milliseconds.",
            "s",
            promql.quantiles(signals.REQUEST_DURATION, PREDICT, ANSWERED, exemplars=True),
            width=12,
            no_data="Nothing is offered now",
            limit=Limit(0.05),
            alerts=("CalsvcLatencyBudgetBurn",),
            links=(SLOW_TRACES,),
        ),
    ),
)
RETURNED: Final = Section(
    "Truth",
    (
        Panel(
            "Predicted and judged",
            "Predictions, and the labels that met one. Normal: the second is the first, shifted by the delay.",
            "reqps",
            (Query(total(PREDICTED), "predicted"), Query(total(MATCHED), "judged")),
            alerts=("CalsvcFeedbackMissing",),
        ),
        Panel(
            "Truths by outcome",
            "matched, duplicate (sent again: the answer to the first was lost), conflict, unknown (the service has "
            "forgotten, or never knew). Normal: matched.",
            "reqps",
            (Query(total(rate(of(signals.FEEDBACK)), "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Truths by answer",
            "200: matched or duplicate. 404: unknown. 409: conflict. 503: refused, and sent again later. Normal: 200.",
            "reqps",
            (Query(total(requests(TRUTH), "http_response_status_code"), "{{http_response_status_code}}"),),
            no_data="No truth was sent yet",
            stacked=True,
            links=(FAILED_TRACES,),
        ),
        Panel(
            "How late truths are",
            "Age of the label less the delay that was agreed, which is chosen at the top. Normal: 0 to some seconds. "
            "Interpolated within the histogram's buckets: 5 s wide or less only around 300 s.",
            "s",
            (
                Query(f"({quantile(0.5, signals.FEEDBACK_LAG)}) - $due", "p50"),
                Query(f"({quantile(0.99, signals.FEEDBACK_LAG)}) - $due", "p99"),
            ),
            width=12,
            no_data=NO_TRUTH,
            alerts=("CalsvcFeedbackLate",),
        ),
        Panel(
            "Age of truths",
            "How many labels came at which age; the brighter, the more. Normal: one bright line at the delay.",
            "s",
            (promql.heatmap(signals.FEEDBACK_LAG),),
            kind="heatmap",
            width=12,
            no_data=NO_TRUTH,
        ),
    ),
)
BOARD: Final = Board(
    "simulator",
    "calsvc: Simulator",
    "What the service sees of the one who sends records and, later, their truth.",
    (promql.JOB, promql.INSTANCE, DUE),
    (GLANCE, OFFERED, RETURNED),
)

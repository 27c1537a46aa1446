"""Truths that are owed, delivered and late, and the counts of both sides, for the dashboard Simulator."""

from typing import Final

from observability import signals
from observability.dashboards import promql
from observability.dashboards.boards import Limit, Panel, Query, Section
from observability.dashboards.datasources import FAILED_TRACES, SLOW_TRACES
from observability.dashboards.promql import ANSWERED, CHAMPION, highest, of, rate, sent_by, total
from observability.dashboards.sending import LATE, NO_RUN, OK, PREDICT, quantiles_from

NO_TRUTH: Final = "No label came lately"
MATCHED: Final = rate(sent_by(signals.SIM_DELIVERED, 'status="matched"'))

TRUTH: Final = Section(
    "Truth",
    (
        Panel(
            "Owed, due, waited for",
            "Truths that the simulator owes, those of them that are due, and predictions for which the service waits. "
            "Normal: the first and the last agree; nothing is due.",
            "short",
            (
                Query(total(sent_by(signals.SIM_OWED)), "owed"),
                Query(total(sent_by(signals.SIM_DUE)), "due"),
                Query(highest(of(signals.PENDING)), "waited for by the service"),
            ),
            alerts=("CalsvcFeedbackMissing",),
        ),
        Panel(
            "Truths settled, by status",
            "matched, duplicate (the answer to the first was lost), conflict, unknown (the service has forgotten, or "
            "never knew), rejected; given up: nothing settled it in time. Normal: matched.",
            "reqps",
            (
                Query(total(rate(sent_by(signals.SIM_DELIVERED)), "status"), "{{status}}"),
                Query(total(rate(sent_by(signals.SIM_GIVEN_UP))), "given up"),
            ),
            no_data=NO_RUN,
            stacked=True,
            links=(FAILED_TRACES,),
        ),
        Panel(
            "Sent again",
            "stale_connection: the service had closed it meanwhile; sent again at once. feedback not_settled: a truth "
            "without a definitive answer; sent again later. predict, any other reason: what became of a try that was "
            "followed by another. Normal: 0, a few stale connections after a silence.",
            "reqps",
            (Query(total(rate(sent_by(signals.SIM_RETRIES)), "call", "reason"), "{{call}} {{reason}}"),),
            no_data=NO_RUN,
            stacked=True,
        ),
        Panel(
            "How late truths are",
            "Age of the label less the delay that was agreed, which is chosen at the top; by the service's clock. "
            "Normal: 0 to some seconds. Interpolated within the histogram's buckets: 5 s wide or less only around "
            "300 s.",
            "s",
            tuple(
                Query(f"({promql.quantile(share, signals.FEEDBACK_LAG)}) - $due", f"p{100 * share:g}")
                for share in (0.5, 0.99)
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
BOTH: Final = Section(
    "Both sides",
    (
        Panel(
            "Predictions",
            "Acknowledged by the one, answered with 200 by the other. Normal: equal. More answered: somebody else asks "
            "too, or answers were lost.",
            "reqps",
            (Query(total(OK), "simulator"), Query(total(rate(of(signals.PREDICTIONS, CHAMPION))), "service")),
            width=6,
        ),
        Panel(
            "Truths that met their prediction",
            "By the one's count and by the other's. Normal: equal.",
            "reqps",
            (
                Query(total(MATCHED), "simulator"),
                Query(total(rate(of(signals.FEEDBACK, 'outcome="matched"'))), "service"),
            ),
            width=6,
        ),
        Panel(
            "p99 of predictions",
            "From the actual send to the whole answer, and from a request's arrival to the end of its answer. Normal: "
            "the first is higher by the network, the client, and the wait for a connection: a millisecond.",
            "s",
            (
                quantiles_from("sent")[2]._replace(legend="simulator", exemplars=False),
                Query(promql.quantile(0.99, signals.REQUEST_DURATION, PREDICT, ANSWERED), "service"),
            ),
            width=6,
            no_data="Nothing is sent now",
            links=(SLOW_TRACES,),
        ),
        Panel(
            "CPU",
            "100 % is one CPU, which is all that either can use. Normal: under 5 % each at 20 records a second.",
            "percentunit",
            (
                Query(total(rate(sent_by("process_cpu_seconds_total", 'job="streamsim"'))), "simulator"),
                Query(total(rate(of("process_cpu_seconds_total"))), "service"),
            ),
            width=6,
            limit=Limit(0.9),
            alerts=("CalsvcCpuSaturated", *LATE),
        ),
    ),
)

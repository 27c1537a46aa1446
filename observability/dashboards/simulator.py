"""The dashboard Simulator: what the one who sends records and, later, truth has seen, beside what the service has.

What only the simulator can know comes from its own `/metrics`: the requests that never arrived, the time they took on
the client's side, its own lateness, the truths it still owes.
"""

from typing import Final

from observability import signals
from observability.dashboards import promql
from observability.dashboards.boards import Board, Limit, Panel, Query, Section, Variable
from observability.dashboards.datasources import FAILED_TRACES, SLOW_TRACES
from observability.dashboards.promql import quantile_of, rate, requests, sent_by, total
from observability.dashboards.sending import LATE, NO_RUN, OF_PREDICTIONS, OK, PREDICT, quantiles_from
from observability.dashboards.truth import BOTH, TRUTH

DUE: Final = Variable("due", "A label is due after, s", "300", kind="text")
SIMULATOR: Final = Variable("simulator", "Simulator", f"label_values({signals.SIM_RUN_INFO.exposed}, instance)")
PLANNED: Final = total(rate(sent_by(signals.SIM_PLANNED)))
NOT_SENT: Final = total(rate(sent_by(signals.SIM_REQUESTS, OF_PREDICTIONS, 'result="not_sent"')))
RESULTS: Final = rate(sent_by(signals.SIM_REQUESTS, OF_PREDICTIONS))


def lag(share: float) -> str:
    """How late the simulator was, at a quantile."""
    return quantile_of(share, sent_by(signals.SIM_SCHEDULE_LAG, part="_bucket"))


GLANCE: Final = Section(
    "At a glance",
    (
        Panel(
            "Planned now",
            "Records per second that are due at this moment. Normal: --rps within a burst, 0 between bursts and while "
            "only truths are left to send.",
            "reqps",
            (Query(total(sent_by(signals.SIM_TARGET_RATE)), "planned"),),
            kind="stat",
            width=4,
            no_data=NO_RUN,
        ),
        Panel(
            "Sent",
            "Records per second that left, over a minute at least. Normal: --rps times the share of time that is "
            "burst.",
            "reqps",
            (Query(f"{PLANNED} - {NOT_SENT}", "sent"),),
            kind="stat",
            width=4,
            no_data=NO_RUN,
        ),
        Panel(
            "Answered with a prediction",
            "Share of the records with the right answer, of those that ended either way. Normal: 100 %.",
            "percentunit",
            (Query(f"{total(OK)} / ({total(RESULTS)} > 0)", "ok"),),
            kind="stat",
            width=4,
            no_data="Nothing is sent now",
            limit=Limit(0.995, "below"),
            alerts=("CalsvcAvailabilityBudgetBurn",),
        ),
        Panel(
            "Late by its own fault, p99",
            "How late the simulator itself was. Normal: 1 or 2 ms. Above 10 ms it is the bottleneck, and its latencies "
            "say little about the service.",
            "s",
            (Query(lag(0.99), "p99"),),
            kind="stat",
            width=4,
            no_data="Nothing is sent now",
            limit=Limit(0.01),
            alerts=LATE,
        ),
        Panel(
            "Truths owed",
            "Taken on and not delivered, due or not. Normal: the predictions of the last five minutes.",
            "short",
            (Query(total(sent_by(signals.SIM_OWED)), "owed"),),
            kind="stat",
            width=4,
            no_data=NO_RUN,
        ),
        Panel(
            "Truths overdue",
            "Due and not delivered. Normal: 0. Some hundreds stay for as long as the service refuses them, and are "
            "sent again.",
            "short",
            (Query(total(sent_by(signals.SIM_DUE)), "due"),),
            kind="stat",
            width=4,
            no_data=NO_RUN,
            limit=Limit(100),
            alerts=("CalsvcFeedbackLate",),
        ),
    ),
)
RECORDS: Final = Section(
    "Records",
    (
        Panel(
            "Planned, sent, arrived",
            "Arrivals whose time had come, those that left, and those that the service has answered in any way. "
            "Normal: one line, in waves, as these are taken over a minute at least; the plan of the moment jumps "
            "between --rps and 0.",
            "reqps",
            (
                Query(total(sent_by(signals.SIM_TARGET_RATE)), "planned at this moment"),
                Query(PLANNED, "planned"),
                Query(f"{PLANNED} - {NOT_SENT}", "sent"),
                Query(total(requests(PREDICT)), "arrived"),
            ),
            no_data=NO_RUN,
        ),
        Panel(
            "Records by result",
            "docs/simulator.md says what each means; not_sent is the simulator's own fault. Normal: all of them ok.",
            "reqps",
            (Query(total(RESULTS, "result"), "{{result}}"),),
            no_data=NO_RUN,
            stacked=True,
            alerts=("CalsvcRequestsRefused",),
            links=(FAILED_TRACES,),
        ),
        Panel(
            "In flight",
            "Requests that wait for their answer. Normal: a handful. An open loop goes on sending when answers get "
            "slow, so this rises as the service falls behind.",
            "short",
            (Query(total(sent_by(signals.SIM_IN_FLIGHT), "call"), "{{call}}"),),
            no_data=NO_RUN,
        ),
    ),
)
LATENCY: Final = Section(
    "Latency of predictions, acknowledged or given up",
    (
        Panel(
            "From the planned send",
            "What a user would have waited who comes when it was planned. Normal: p99 a few milliseconds. The dots are "
            "requests that were traced.",
            "s",
            quantiles_from("planned"),
            no_data="Nothing is sent now",
            limit=Limit(0.05),
            alerts=("CalsvcLatencyBudgetBurn",),
            links=(SLOW_TRACES,),
        ),
        Panel(
            "From the actual send",
            "The same without the simulator's own lateness. Normal: a millisecond less. Much less: the simulator is "
            "the bottleneck.",
            "s",
            quantiles_from("sent"),
            no_data="Nothing is sent now",
            limit=Limit(0.05),
            alerts=("CalsvcLatencyBudgetBurn",),
            links=(SLOW_TRACES,),
        ),
        Panel(
            "Simulator behind its schedule",
            "The generator's own fault: its event loop was busy, or had no CPU. Normal: 1 or 2 ms; an alert at 10 ms "
            "for 1 % of the records.",
            "s",
            (Query(lag(0.5), "p50"), Query(lag(0.99), "p99")),
            no_data="Nothing is sent now",
            limit=Limit(0.01),
            alerts=LATE,
        ),
    ),
)
BOARD: Final = Board(
    "simulator",
    "calsvc: Simulator",
    "What the one who sends records and, later, their truth has seen, beside what the service has seen.",
    (promql.JOB, promql.INSTANCE, SIMULATOR, DUE),
    (GLANCE, RECORDS, LATENCY, TRUTH, BOTH),
)

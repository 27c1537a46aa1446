"""What a replica costs and which model it serves, for the dashboard Service."""

from typing import Final

from observability import signals
from observability.dashboards.boards import Limit, Panel, Query, Section
from observability.dashboards.datasources import CPU
from observability.dashboards.promql import of, rate, total

ALERTS: Final = 'ALERTS{alertname=~"Calsvc.+"}'
"""What Prometheus itself keeps of alerts."""

PROCESS: Final = Section(
    "Process",
    (
        Panel(
            "CPU",
            "100 % is one CPU. A replica answers on one event loop and cannot use much more than that. "
            "Normal: under 5 % at 20 requests a second.",
            "percentunit",
            (Query(rate(of("process_cpu_seconds_total")), "{{instance}}"),),
            width=6,
            limit=Limit(0.9),
            alerts=("CalsvcCpuSaturated",),
            links=(CPU,),
        ),
        Panel(
            "Resident memory",
            "Normal: 100 to 200 MiB, rising with the predictions that wait for their truth, then flat.",
            "bytes",
            (Query(of("process_resident_memory_bytes"), "{{instance}}"),),
            width=6,
        ),
        Panel(
            "Event-loop lag",
            "How late the loop woke from its last short sleep: every request waits that long. Normal: 1 or 2 ms. "
            "From 50 ms on the challenger is left out.",
            "s",
            (Query(of(signals.EVENT_LOOP_LAG), "{{instance}}"),),
            width=6,
            limit=Limit(0.05),
            alerts=("CalsvcEventLoopSlow",),
            links=(CPU,),
        ),
        Panel(
            "Spans lost",
            "Traces have holes; no request suffers. Normal: 0. undelivered: no collector took them. "
            "overflow: too many waited for one.",
            "ops",
            (Query(total(rate(of(signals.SPANS_DROPPED)), "instance", "reason"), "{{reason}} {{instance}}"),),
            width=6,
            alerts=("CalsvcSpansDropped",),
        ),
        Panel(
            "Store degraded",
            "1 while a replica cannot keep its predictions as it should: a shared store is out of its reach, or the "
            "disk refuses the journal. They are answered all the same. Normal: 0.",
            "none",
            (Query(of(signals.STORE_IS_DEGRADED), "{{instance}}"),),
            width=24,
            alerts=("CalsvcStoreDegraded",),
        ),
    ),
)
RUNNING: Final = Section(
    "What runs",
    (
        Panel(
            "Models",
            "Which model each replica serves. Normal: the same version in every line; a new champion arrives "
            "everywhere within a minute.",
            "none",
            (Query(of(signals.MODEL_INFO), ""),),
            kind="table",
            width=14,
            no_data="No replica has a model",
            alerts=("CalsvcModelVersionsDisagree",),
            columns={
                "instance": "Replica",
                "model_version": "Model version",
                "engine": "Engine",
                "run_id": "MLflow run",
                "git_sha": "Git SHA",
            },
        ),
        Panel(
            "Alerts",
            "Those that fire, and those about to. docs/runbook.md has a heading for each of them. Normal: none.",
            "none",
            (Query(ALERTS, "", empty="nothing is wrong"),),
            kind="table",
            width=10,
            no_data="Nothing is wrong",
            columns={
                "alertname": "Alert",
                "alertstate": "State",
                "severity": "Severity",
                "instance": "Replica",
            },
        ),
    ),
)

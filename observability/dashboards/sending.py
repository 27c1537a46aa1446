"""The words that the parts of the dashboard Simulator have in common."""

from typing import Final

from observability import signals
from observability.dashboards.boards import Query
from observability.dashboards.promql import quantile_of, rate, sent_by

PREDICT: Final = 'http_route="/predict"'
OF_PREDICTIONS: Final = 'call="predict"'
LATE: Final = ("CalsvcSimulatorLate",)
NO_RUN: Final = "No simulator runs: just stream --rps 20 --on 5 --off 25"
OK: Final = rate(sent_by(signals.SIM_REQUESTS, OF_PREDICTIONS, 'result="ok"'))


def quantiles_from(basis: str) -> tuple[Query, ...]:
    """Latency of predictions from their planned or actual send, with exemplars."""
    buckets = sent_by(signals.SIM_REQUEST_DURATION, OF_PREDICTIONS, f'basis="{basis}"', part="_bucket")
    return (
        Query(quantile_of(0.5, buckets), "p50"),
        Query(quantile_of(0.95, buckets), "p95"),
        Query(quantile_of(0.99, buckets), "p99", exemplars=True),
    )

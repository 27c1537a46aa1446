"""Grafana's dashboards as code. `python -m observability.dashboards` writes them to observability/generated.

What is on them is said in plain tuples (`boards`, then `service`, `quality`, `simulator`); only `rendering` knows
Grafana's SDK, which belongs to the development group and to no replica.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from observability.dashboards import quality, service, simulator
from observability.dashboards.boards import SAMPLE_VALUES, Board, substitute

BOARDS: Final[tuple[Board, ...]] = (service.BOARD, quality.BOARD, simulator.BOARD)
ALERTS_ON_CHARTS: Final = 'ALERTS{alertname=~"Calsvc.+", alertstate="firing"}'
"""Drawn across the charts of every dashboard."""


class Asked(NamedTuple):
    """A query as Prometheus gets it.

    Args:
        dashboard: its name; `panel`: its title.
        may_be_empty: why a healthy service may have no such series; None: it has.
        legend: the name of each series, `{{label}}` not filled in.
    """

    dashboard: str
    panel: str
    expr: str
    may_be_empty: str | None
    legend: str


def queries(values: Mapping[str, str] = SAMPLE_VALUES) -> Iterator[Asked]:
    """Yield every query of every dashboard, with its variables filled in."""
    for board in BOARDS:
        yield Asked(board.name, "alerts on charts", ALERTS_ON_CHARTS, "nothing is wrong", "{{alertname}}")
        for panel in board.panels:
            for query in panel.queries:
                yield Asked(board.name, panel.title, substitute(query.expr, values), query.empty, query.legend)

"""What a dashboard is made of, said without Grafana: sections of panels, each with its queries."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple
from zlib import crc32

from observability.dashboards.datasources import Link

Kind = Literal["timeseries", "stat", "heatmap", "table"]
KCAL: Final = "suffix: kcal"
"""A unit that Grafana has none for."""
SAMPLE_VALUES: Final[Mapping[str, str]] = {
    "job": "calsvc",
    "instance": ".*",
    "model_version": ".*",
    "role": ".*",
    "due": "300",
    "simulator": ".*",
    "__rate_interval": "1m",
}
"""Values of the variables that occur in queries, for asking them outside of Grafana."""


class Query(NamedTuple):
    """One PromQL expression.

    Args:
        expr: may name variables, `$job`.
        legend: the name of each series, `{{label}}` filled in.
        empty: why a healthy service may have no such series; None: it always has.
        exemplars: ask for the traces behind it as well.
    """

    expr: str
    legend: str
    empty: str | None = None
    exemplars: bool = False


class Limit(NamedTuple):
    """From where on a value is bad: a dashed line, or the colour of a number."""

    value: float
    bad: Literal["above", "below"] = "above"


class Panel(NamedTuple):
    """One panel.

    Args:
        title: names it within its dashboard; its id is made of this, so that moving it changes nothing else.
        description: what it means, and what is normal.
        unit: Grafana's id of it.
        width: of the 24 columns.
        no_data: what stands there instead of a chart.
        alerts: those that watch the same; each has a heading in docs/runbook.md.
        columns: of a table, label by label: its heading; other labels are left out.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    no_data: str = "No data"
    limit: Limit | None = None
    alerts: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    columns: Mapping[str, str] = {}
    stacked: bool = False

    @property
    def id(self) -> int:
        """The panel's number in links."""
        return _id_of(self.title)


class Variable(NamedTuple):
    """Something to choose at the top.

    Args:
        values: a query for what there is to choose from, or the text of an input.
        every: the pattern that All stands for; empty: those that there are to choose from, and no other.
    """

    name: str
    label: str
    values: str
    kind: Literal["query", "text"] = "query"
    every: str = ".*"


class Section(NamedTuple):
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]

    @property
    def id(self) -> int:
        """The heading's number, another one than that of a panel of this name."""
        return _id_of(f"# {self.title}")


class Board(NamedTuple):
    """One dashboard. `name`: its file in observability/generated, and with `calsvc-` its uid."""

    name: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels, in reading order."""
        return (panel for section in self.sections for panel in section.panels)


def _id_of(title: str) -> int:
    return crc32(title.encode()) % 1_000_000


def substitute(expr: str, values: Mapping[str, str]) -> str:
    """Fill in the variables of an expression, `$name` or `${name}`; KeyError for one without a value."""
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: values[found[1] or found[2]], expr)

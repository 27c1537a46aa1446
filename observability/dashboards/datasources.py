"""The places Grafana asks: their uids and types, fixed here. observability/stack/grafana says where they are."""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

SERVICE_NAME: Final = "calsvc"
"""What the service calls itself in traces, logs and profiles."""
CPU_PROFILE: Final = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
_FROM, _TO = "${__from}", "${__to}"


class Datasource(NamedTuple):
    """One place, as panels and links name it. `type`: the id of Grafana's plugin."""

    uid: str
    type: str


PROMETHEUS: Final = Datasource("calsvc-prometheus", "prometheus")
TRACES: Final = Datasource("calsvc-jaeger", "jaeger")
LOGS: Final = Datasource("calsvc-loki", "loki")
PROFILES: Final = Datasource("calsvc-pyroscope", "grafana-pyroscope-datasource")
DATASOURCES: Final = (PROMETHEUS, TRACES, LOGS, PROFILES)


class Link(NamedTuple):
    """A way out of a panel, to another signal of the same time."""

    title: str
    url: str


def explore(title: str, datasource: Datasource, query: Mapping[str, Any]) -> Link:
    """Return a link to Grafana's Explore, where `query` is asked about the time that the dashboard shows."""
    asked = {"refId": "A", "datasource": datasource._asdict(), **query}
    pane = {"datasource": datasource.uid, "queries": [asked], "range": {"from": _FROM, "to": _TO}}
    panes = quote(json.dumps({"a": pane}, separators=(",", ":"), sort_keys=True), safe="")
    for variable in (_FROM, _TO):  # which Grafana knows only as they are
        panes = panes.replace(quote(variable, safe=""), variable)
    return Link(title, f"/explore?schemaVersion=1&panes={panes}")


SLOW_TRACES: Final = explore(
    "Traces of more than 50 ms",
    TRACES,
    {"queryType": "search", "service": SERVICE_NAME, "minDuration": "50ms"},
)
FAILED_TRACES: Final = explore(
    "Traces of failed requests",
    TRACES,
    {"queryType": "search", "service": SERVICE_NAME, "tags": "error=true"},
)
WARNINGS: Final = explore(
    "Warnings and errors in the logs",
    LOGS,
    {"expr": f'{{service_name="{SERVICE_NAME}"}} | json | level=~"warning|error"'},
)
CPU: Final = explore(
    "Where the CPU time went",
    PROFILES,
    {"queryType": "both", "labelSelector": f'{{service_name="{SERVICE_NAME}"}}', "profileTypeId": CPU_PROFILE},
)

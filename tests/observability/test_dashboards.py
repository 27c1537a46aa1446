"""The dashboards: fresh, readable, parsed by promtool, and asking only for what exists."""

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from calsvc.training.gate import PairedSums, compare_sums
from observability import signals
from observability.dashboards import ALERTS_ON_CHARTS, BOARDS, Asked, challenger, queries
from observability.dashboards.__main__ import GENERATED, write
from observability.dashboards.boards import SAMPLE_VALUES, Board, Panel, substitute
from observability.dashboards.datasources import DATASOURCES
from observability.tracing import ids_of
from tests.needs import needed, needs
from tests.service_process import ROOT

RULES = sorted((ROOT / "observability" / "rules").glob("*.yml"))
GRAFANA = ROOT / "observability" / "stack" / "grafana"
PROMETHEUS_OWN = {"up", "ALERTS"}
COLUMNS = 24

every_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)


def generated(board: Board) -> Any:
    """The committed JSON of a dashboard."""
    return json.loads((GENERATED / f"{board.name}.json").read_text(encoding="utf-8"))


def charts(board: Board) -> list[dict[str, Any]]:
    """Its panels, without the headings between them."""
    return [panel for panel in generated(board)["panels"] if panel["type"] != "row"]


def rules(kind: str) -> set[str]:
    """The names of all recording rules ("record") or alerts ("alert")."""
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in RULES]
    return {rule[kind] for file in files for group in file["groups"] for rule in group["rules"] if kind in rule}


def values_of(node: Any, *keys: str) -> Iterator[str]:
    """Every text that stands under one of `keys`, anywhere in a document."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key in keys and isinstance(value, str))
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from values_of(inner, *keys)


def metrics_in(expr: str) -> set[str]:
    """The metrics that an expression selects: names that are neither labels, functions, keywords nor numbers."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]', "", expr)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    names = re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\()\b(?![\w:])(?!\s*\()", bare)
    return set(names) - {"or", "and", "unless", "sum", "max", "min", "count", "bool", "offset"}


def declared() -> set[str]:
    """Every name that a query may select, as Prometheus shows it."""
    histograms = [metric.exposed for metric in signals.METRICS if metric.kind == "histogram"]
    parts = {f"{name}_{part}" for name, part in itertools.product(histograms, ("bucket", "count", "sum"))}
    plain = {metric.exposed for metric in signals.METRICS if metric.kind != "histogram"}
    return plain | parts | rules("record") | PROMETHEUS_OWN


def test_the_committed_json_is_what_the_code_makes(tmp_path: Path):
    """Whoever changes a dashboard writes it anew: python -m observability.dashboards."""
    write(tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        file.name: file.read_text() for file in GENERATED.glob("*.json")
    }


def test_a_dashboard_that_is_no_more_is_removed(tmp_path: Path):
    """Grafana would show it for ever."""
    (tmp_path / "old.json").write_text("{}")
    write(tmp_path)
    assert sorted(file.stem for file in tmp_path.iterdir()) == sorted(board.name for board in BOARDS)


@pytest.mark.parametrize("asked", list(queries()), ids=lambda asked: f"{asked.dashboard}: {asked.panel}")
def test_only_what_is_declared_is_asked_for(asked: Asked):
    """Metrics of signals.py, recording rules, those of the process, and Prometheus's own."""
    names = metrics_in(asked.expr)
    assert names, "the expression selects nothing"
    assert {name for name in names if not name.startswith("process_")} <= declared()


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (le, role) (rate(a_total{x="b_total"}[5m])) / on (z) group_left () c:d:5m', {"a_total", "c:d:5m"}),
        ("histogram_quantile(0.99, sum by (le) (rate(a_bucket[1m]))) >= 0 or vector(0)", {"a_bucket"}),
        ("1.5 * sqrt(clamp_min(sum(a) - 1e-9, 0)) - 300", {"a"}),
    ],
)
def test_the_names_of_metrics_are_found(expr: str, names: set[str]):
    """Labels, functions, keywords and numbers are no metrics."""
    assert metrics_in(expr) == names


@every_board
def test_a_choice_is_made_from_what_is_declared(board: Board):
    """`label_values(metric, label)`: the metric exists and has the label."""
    known = {metric.exposed: {*metric.attributes, "job", "instance"} for metric in signals.METRICS}
    for variable in board.variables:
        if variable.kind == "query":
            found = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable.values)
            assert found is not None
            assert found[2] in known[found[1]]


@every_board
def test_all_jobs_are_those_of_replicas(board: Board):
    """The simulator, the collector and Prometheus have processes and are up, too, and are no replicas."""
    variables = {variable["name"]: variable for variable in generated(board)["templating"]["list"]}
    assert variables["job"]["includeAll"]
    assert "allValue" not in variables["job"]
    assert variables["instance"]["allValue"] == ".*"


@needs("promtool")
def test_promtool_parses_every_query(tmp_path: Path):
    """All of them as rules of one file, their variables filled in."""
    names = (f"asked:{number}" for number in itertools.count())
    asked = [{"record": name, "expr": each.expr} for name, each in zip(names, queries(), strict=False)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": asked}]}))  # JSON is YAML
    checked = subprocess.run([needed("promtool"), "check", "rules", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(asked)} rules found" in checked.stdout


@every_board
def test_every_variable_of_a_query_can_be_chosen_or_is_grafanas(board: Board):
    """A name that nobody fills in would be asked for as it stands. And none is there to be chosen for nothing."""
    texts = [query.expr for panel in board.panels for query in panel.queries]
    used = set(re.findall(r"\$(\w+)", " ".join(texts)))
    assert {name for name in used if not name.startswith("__")} == {variable.name for variable in board.variables}


@every_board
def test_panels_have_numbers_of_their_own_and_do_not_overlap(board: Board):
    """Headings included, within 24 columns."""
    panels = generated(board)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in panels)
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < COLUMNS


@every_board
def test_every_panel_says_what_it_means_and_what_is_normal(board: Board):
    """And has a unit, words for the case without data, and a name for each series."""
    for panel in charts(board):
        assert "Normal" in panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["noValue"]
        assert all(target["legendFormat"] or panel["type"] == "table" for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@every_board
def test_a_dashboard_shows_the_last_quarter_of_an_hour_and_follows(board: Board):
    """As long as a burst, its labels and the next one; its address stays."""
    document = generated(board)
    assert document["time"] == {"from": "now-15m", "to": "now"}
    assert (document["refresh"], document["uid"]) == ("10s", f"calsvc-{board.name}")
    assert document["annotations"]["list"][0]["expr"] == ALERTS_ON_CHARTS


@pytest.mark.parametrize(
    "panel", [panel for board in BOARDS for panel in board.panels if panel.alerts], ids=lambda panel: panel.title
)
def test_the_alerts_of_a_panel_exist_and_have_a_runbook(panel: Panel):
    """By name, in the rules and in docs/runbook.md."""
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert set(panel.alerts) <= rules("alert")
    assert all(f"\n## {alert}\n" in runbook for alert in panel.alerts)


def provisioned() -> list[dict[str, Any]]:
    """The datasources that Grafana gets."""
    text = (GRAFANA / "datasources" / "datasources.yaml").read_text(encoding="utf-8")
    sources: list[dict[str, Any]] = yaml.safe_load(text)["datasources"]
    return sources


def test_the_datasources_are_those_of_the_code():
    """Same uids, same types."""
    assert {(source["uid"], source["type"]) for source in provisioned()} == set(DATASOURCES)


@every_board
def test_every_datasource_that_a_dashboard_names_is_provisioned(board: Board):
    """Panels, variables, annotations, and the links to Explore."""
    document = generated(board)
    del document["uid"]
    links = [unquote(url) for url in values_of(document, "url")]
    named = {*values_of(document, "uid"), *re.findall(r'"uid":"([^"]+)"', " ".join(links))}
    assert named <= {source["uid"] for source in provisioned()}


def test_signals_lead_to_each_other_by_datasources_that_are_provisioned():
    """Metrics to traces, traces to logs and metrics, logs to traces."""
    leads = {source["type"]: set(values_of(source["jsonData"], "datasourceUid")) for source in provisioned()}
    assert leads == {
        "prometheus": {"calsvc-jaeger"},
        "jaeger": {"calsvc-loki", "calsvc-prometheus"},
        "loki": {"calsvc-jaeger"},
        "grafana-pyroscope-datasource": set(),
    }


def test_an_exemplar_is_found_by_the_label_that_it_has():
    """`exemplarTraceIdDestinations` names what the service's exemplars are labelled with."""
    prometheus = next(source for source in provisioned() if source["type"] == "prometheus")
    labels = ids_of(INVALID_SPAN_CONTEXT)
    assert {each["name"] for each in prometheus["jsonData"]["exemplarTraceIdDestinations"]} <= labels.keys()


def test_grafana_is_told_where_everything_is():
    """It knows no default values: each ${NAME} of the provisioning has a line in grafana.env."""
    text = "".join(file.read_text(encoding="utf-8") for file in GRAFANA.glob("*/*.yaml"))
    told = re.findall(r"^([A-Z_]+)=.+$", (GRAFANA / "grafana.env").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?<!\$)\$\{(\w+)\}", text)) <= set(told)


SUMS = PairedSums(records=400, champion=1.6, candidate=1.5, squared_differences=0.002)


@needs("promtool")
@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (challenger.relative(challenger.difference()), SUMS.candidate / SUMS.champion - 1),
        (
            challenger.relative(f"{challenger.difference()} + {challenger.half_interval()}"),
            (1 + compare_sums(SUMS).high) ** 2 - 1,
        ),
        (
            challenger.relative(f"{challenger.difference()} - {challenger.half_interval()}"),
            (1 + compare_sums(SUMS).low) ** 2 - 1,
        ),
    ],
    ids=["difference", "upper end", "lower end"],
)
def test_the_challengers_interval_is_that_of_the_gate(tmp_path: Path, expr: str, expected: float):
    """What the chart shows is what `just promote --on-live` decides by, here over two replicas, in terms of squares."""
    pair = 'job="calsvc", champion_version="1", challenger_version="2"'
    sums = {
        "calsvc_quality_paired_total{%s}": SUMS.records,
        'calsvc_quality_paired_squared_log_error_total{role="champion", %s}': SUMS.champion,
        'calsvc_quality_paired_squared_log_error_total{role="challenger", %s}': SUMS.candidate,
        "calsvc_quality_paired_squared_difference_total{%s}": SUMS.squared_differences,
    }
    series = [
        {"series": name % f'{pair}, instance="{replica}"', "values": str(total * share)}
        for name, total in sums.items()
        for replica, share in (("a", 0.25), ("b", 0.75))
    ]
    close = f"abs(({substitute(expr, SAMPLE_VALUES)}) - ({expected!r})) < bool 1e-6"
    labels = '{champion_version="1", challenger_version="2"}'
    asked = [{"expr": close, "eval_time": "0s", "exp_samples": [{"labels": labels, "value": 1}]}]
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": asked}]}))
    tested = subprocess.run([needed("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr

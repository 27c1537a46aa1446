"""From what is on a dashboard to Grafana's JSON, by its Foundation SDK: the looks of every panel are decided here.

The SDK is made anew from Grafana's schemas for every version of Grafana; pyproject.toml says which one this is for.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from observability.dashboards import ALERTS_ON_CHARTS
from observability.dashboards.boards import Board, Kind, Limit, Panel, Query, Variable
from observability.dashboards.datasources import PROMETHEUS, Link

TAG: Final = "calsvc"
GOOD, BAD, LINE = "green", "red", "orange"
HEIGHTS: Final[Mapping[Kind, int]] = {"stat": 4, "timeseries": 8, "heatmap": 8, "table": 7}
SOURCE: Final = models.DataSourceRef(type_val=PROMETHEUS.type, uid=PROMETHEUS.uid)
ALERT_TEXT: Final = {"titleFormat": "{{alertname}}", "tagKeys": "severity,instance"}
"""What a mark on a chart says when it is pointed at: Prometheus's own fields, which the SDK's annotation has not."""
ALL: Final = models.VariableOption(selected=True, text=["All"], value=["$__all"])

AnyPanel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, heatmap.Panel, table.Panel)


def as_json(board: Board) -> str:
    """Return the dashboard as Grafana reads it, in a form whose differences are small."""
    document = json.loads(JSONEncoder().encode(_dashboard(board).build()))
    for annotation in document["annotations"]["list"]:
        annotation.update(ALERT_TEXT)
    return json.dumps(document, sort_keys=True, indent=2) + "\n"


def _dashboard(board: Board) -> dashboard.Dashboard:
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"{TAG}-{board.name}")
        .description(board.description)
        .tags([TAG])
        .time("now-15m", "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(_to_the_others())
        .annotation(_alerts())
    )
    for variable in board.variables:
        built.with_variable(_variable(variable))
    for section in board.sections:
        built.with_row(dashboard.Row(section.title).id(section.id))
        for panel in section.panels:
            built.with_panel(_panel(panel))
    return built


def _to_the_others() -> dashboard.DashboardLink:
    of_this_tag = dashboard.DashboardLink("calsvc").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    return of_this_tag.include_vars(True).keep_time(True)


def _alerts() -> dashboard.AnnotationQuery:
    query = dashboard.AnnotationQuery().name("Alerts").datasource(SOURCE)
    return query.enable(True).icon_color(BAD).expr(ALERTS_ON_CHARTS)


def _variable(variable: Variable) -> dashboard.QueryVariable | dashboard.TextBoxVariable:
    if variable.kind == "text":
        chosen = models.VariableOption(selected=True, text=variable.values, value=variable.values)
        return (
            dashboard.TextBoxVariable(variable.name)
            .label(variable.label)
            .default_value(variable.values)
            .current(chosen)
        )
    built = (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .datasource(SOURCE)
        .query(variable.values)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .current(ALL)
    )
    return built.all_value(variable.every) if variable.every else built


def _panel(panel: Panel) -> AnyPanel:
    makers: Mapping[Kind, Callable[[Panel], AnyPanel]] = {
        "timeseries": _timeseries,
        "stat": _stat,
        "heatmap": _heatmap,
        "table": _table,
    }
    return makers[panel.kind](panel)


def _common(builder: P, panel: Panel) -> P:
    """Set what every panel has, whatever it looks like."""
    builder.id(panel.id).title(panel.title).description(_described(panel)).unit(panel.unit).no_value(panel.no_data)
    builder.datasource(SOURCE).span(panel.width).height(HEIGHTS[panel.kind])
    builder.links([_link(link) for link in panel.links])
    if panel.limit is not None:
        builder.thresholds(_thresholds(panel.limit, panel.kind))
    for ref_id, query in zip("ABCDEFGH", panel.queries, strict=False):
        builder.with_target(_target(query, panel.kind).ref_id(ref_id))
    return builder


def _described(panel: Panel) -> str:
    runbook = [f"{alert}: docs/runbook.md#{alert.lower()}" for alert in panel.alerts]
    return "\n\n".join([panel.description, *runbook])


def _link(link: Link) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(link.title).type(models.DashboardLinkType.LINK).url(link.url).target_blank(True)


def _thresholds(limit: Limit, kind: Kind) -> dashboard.ThresholdsConfig:
    good, bad = (GOOD, BAD) if kind == "stat" else ("transparent", LINE)
    first, second = (good, bad) if limit.bad == "above" or kind != "stat" else (bad, good)
    steps = [models.Threshold(None, first), models.Threshold(limit.value, second)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _target(query: Query, kind: Kind) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
    if kind == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    target.range().exemplar(query.exemplars)
    return target.format(PromQueryFormat.HEATMAP) if kind == "heatmap" else target


def _timeseries(panel: Panel) -> timeseries.Panel:
    legend = options.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).show_legend(True)
    tooltip = options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    built = (
        _common(timeseries.Panel(), panel)
        .legend(legend.placement(common.LegendPlacement.BOTTOM))
        .tooltip(tooltip)
        .line_width(1)
        .fill_opacity(40 if panel.stacked else 0)
        .show_points(common.VisibilityMode.AUTO)
        .axis_soft_min(0)
    )
    if panel.stacked:
        built.stacking(options.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.limit is not None:
        built.thresholds_style(options.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
    return built


def _stat(panel: Panel) -> stat.Panel:
    return (
        _common(stat.Panel(), panel)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.VALUE if panel.limit else common.BigValueColorMode.NONE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .text_mode(common.BigValueTextMode.VALUE)
    )


def _heatmap(panel: Panel) -> heatmap.Panel:
    colours = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    return (
        _common(heatmap.Panel(), panel)
        .calculate(False)
        .color(colours.scale(heatmap_models.HeatmapColorScale.EXPONENTIAL).exponent(0.5))
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .cell_gap(1)
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(common.HeatmapCellLayout.AUTO))
        .exemplars_color("rgba(255,0,255,0.7)")
        .show_y_histogram()
    )


def _table(panel: Panel) -> table.Panel:
    order = {label: position for position, label in enumerate(panel.columns)}
    organized = {"indexByName": order, "renameByName": dict(panel.columns), "excludeByName": {}}
    return (
        _common(table.Panel(), panel)
        .show_header(True)
        .with_transformation(_transformation("filterFieldsByName", {"include": {"names": list(panel.columns)}}))
        .with_transformation(_transformation("organize", organized))
    )


def _transformation(name: str, how: Mapping[str, object]) -> models.DataTransformerConfig:
    return models.DataTransformerConfig(id_val=name, options=how)

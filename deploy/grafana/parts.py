"""What the dashboards are built of: queries of the three data sources, panels in one style, variables, links between them.

Every panel has a description that says what it shows and what to do about it. The data sources' uids are fixed: ``prometheus``, ``tempo``, ``loki``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, heatmap, logs, loki, prometheus, stat, statetimeline, table, tempo, timeseries
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard as dashboards
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorOptions
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = dashboards.DataSourceRef(type_val="prometheus", uid="prometheus")
TEMPO = dashboards.DataSourceRef(type_val="tempo", uid="tempo")
LOKI = dashboards.DataSourceRef(type_val="loki", uid="loki")
TAG = "fleetwake"
TRACES_MAX = 50
LOG_LINES_MAX = 500
REFRESH = "30s"
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"

Query: TypeAlias = Any
"""A query of the SDK's builders."""
Limits: TypeAlias = Sequence[tuple[float, str]]
"""Values from which a colour holds; below the first it is green."""


# ---- queries --------------------------------------------------------------------------------------------------------------------------------
def promql(expr: str, legend: str = "", *, exemplars: bool = False) -> Query:
    """A query over the time range."""
    return prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").range().exemplar(exemplars).datasource(PROMETHEUS)


def now(expr: str, legend: str = "") -> Query:
    """A query of the present moment."""
    return prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").instant().datasource(PROMETHEUS)


def rows(expr: str) -> Query:
    """A query of the present moment as a table's rows."""
    return prometheus.Dataquery().expr(expr).instant().format(PromQueryFormat.TABLE).datasource(PROMETHEUS)


def buckets(expr: str) -> Query:
    """A query of a histogram's buckets, with exemplars."""
    return prometheus.Dataquery().expr(expr).legend_format("{{le}}").range().format(PromQueryFormat.HEATMAP).exemplar(True).datasource(PROMETHEUS)


def traceql(query: str) -> Query:
    """A search for traces."""
    return tempo.TempoQuery().query_type("traceql").query(query).limit(TRACES_MAX).datasource(TEMPO)


def logql(expr: str) -> Query:
    """A search for log lines."""
    return loki.Dataquery().expr(expr).query_type("range").max_lines(LOG_LINES_MAX).datasource(LOKI)


def quantile(share: float, metric: str, matchers: str = "", by: str = "") -> str:
    """PromQL: a quantile of a histogram of ours over the rate interval."""
    labels = f"le, {by}" if by else "le"
    selector = f"{{{matchers}}}" if matchers else ""
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{selector}[$__rate_interval])))"


# ---- panels ---------------------------------------------------------------------------------------------------------------------------------
def graph(  # noqa: PLR0913 -- a panel is what these say, and every call names them
    title: str,
    about: str,
    queries: Iterable[Query],
    *,
    unit: str = "short",
    width: int = 12,
    limits: Limits = (),
    stacked: bool = False,
    links: Sequence[Any] = (),
) -> Any:
    """Lines over time."""
    panel = timeseries.Panel().title(title).description(about).unit(unit).span(width).height(8).min(0).datasource(PROMETHEUS)
    panel = panel.fill_opacity(12 if stacked else 4).line_width(1).show_points(models.VisibilityMode.NEVER)
    panel = panel.legend(common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).placement(models.LegendPlacement.BOTTOM).show_legend(True))
    panel = panel.tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL))
    if limits:
        panel = panel.thresholds(thresholds(limits)).thresholds_style(common.GraphThresholdsStyleConfig().mode(models.GraphTresholdsStyleMode.DASHED))
    if links:
        panel = panel.data_links(list(links))
    return _with(panel, queries)


def number(title: str, about: str, query: Query, *, unit: str = "short", width: int = 4, limits: Limits = (), links: Sequence[Any] = ()) -> Any:  # noqa: PLR0913
    """One number, coloured by its limits."""
    panel = stat.Panel().title(title).description(about).unit(unit).span(width).height(4).datasource(PROMETHEUS).no_value("-")
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).color_mode(
        models.BigValueColorMode.BACKGROUND if limits else models.BigValueColorMode.VALUE
    )
    panel = panel.graph_mode(models.BigValueGraphMode.NONE).thresholds(thresholds(limits))
    if links:
        panel = panel.data_links(list(links))
    return _with(panel, [query])


def timeline(title: str, about: str, queries: Iterable[Query], *, width: int = 24, height: int = 9) -> Any:
    """Conditions over time: True green, Unknown orange, False red."""
    panel = statetimeline.Panel().title(title).description(about).span(width).height(height).datasource(PROMETHEUS).line_width(0).fill_opacity(80)
    panel = panel.show_value(models.VisibilityMode.NEVER).merge_values(True).row_height(0.8)
    states = {"2": ("True", GREEN), "1": ("Unknown", ORANGE), "0": ("False", RED)}
    mapped = {value: dashboards.ValueMappingResult(text=text, color=color) for value, (text, color) in states.items()}
    panel = panel.mappings([dashboards.ValueMap(options=mapped)])
    panel = panel.legend(common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).placement(models.LegendPlacement.BOTTOM).show_legend(True))
    return _with(panel, queries)


def listing(title: str, about: str, queries: Iterable[Query], *, columns: Sequence[Column] = (), width: int = 24, height: int = 9) -> Any:
    """Rows and columns: of Prometheus' labels, or of traces."""
    asked = list(queries)
    panel = table.Panel().title(title).description(about).span(width).height(height).datasource(asked[0].build().datasource).show_header(True)
    for column in columns:
        panel = panel.override_by_name(column.field, column.properties())
    if columns and isinstance(asked[0], prometheus.Dataquery):
        kept = [column.field for column in columns]
        names = {column.field: column.name for column in columns}
        order = {"include": {"names": kept}}
        panel = panel.with_transformation(dashboards.DataTransformerConfig(id_val="filterFieldsByName", options=order))
        arranged = {"indexByName": {field: place for place, field in enumerate(kept)}, "renameByName": names}
        panel = panel.with_transformation(dashboards.DataTransformerConfig(id_val="organize", options=arranged))
    return _with(panel, asked)


class Column:
    """A column of a listing: the label or ``Value``, its heading, its unit, and where a click leads."""

    def __init__(self, field: str, name: str, unit: str = "", link: str = "") -> None:
        self.field, self.name, self._unit, self._link = field, name, unit, link

    def properties(self) -> list[dashboards.DynamicConfigValue]:
        """What differs from other columns."""
        found = []
        if self._unit:
            found.append(dashboards.DynamicConfigValue(id_val="unit", value=self._unit))
        if self._link:
            found.append(dashboards.DynamicConfigValue(id_val="links", value=[{"title": f"Open {self.name}", "url": self._link}]))
        return found


def lines(title: str, about: str, query: Query, *, width: int = 24, height: int = 12) -> Any:
    """Log lines; each leads to its trace by the data source's derived field."""
    panel = logs.Panel().title(title).description(about).span(width).height(height).datasource(LOKI)
    panel = panel.show_time(True).wrap_log_message(True).enable_log_details(True).sort_order(models.LogsSortOrder.DESCENDING)
    return _with(panel, [query])


def spread(title: str, about: str, query: Query, *, width: int = 24) -> Any:
    """A histogram over time, with exemplars that lead to traces."""
    panel = heatmap.Panel().title(title).description(about).unit("s").span(width).height(9).datasource(PROMETHEUS).calculate(False)
    panel = panel.color(_Colors()).exemplars_color("rgba(255,0,255,0.9)").show_tooltip()
    return _with(panel, [query])


class _Colors(heatmap.HeatmapColorOptions):
    """One scheme for all heat maps."""

    def build(self) -> HeatmapColorOptions:
        """The scheme."""
        return HeatmapColorOptions(mode=HeatmapColorMode.SCHEME, scheme="Oranges", steps=64, fill="dark-orange", exponent=0.5)


def _with(panel: Any, queries: Iterable[Query]) -> Any:
    for number_, query in enumerate(queries):
        panel = panel.with_target(query.ref_id(chr(ord("A") + number_)))
    return panel


def thresholds(limits: Limits) -> Any:
    """Green below the first limit, then each limit's colour."""
    steps = [dashboards.Threshold(value=None, color=GREEN), *(dashboards.Threshold(value=value, color=color) for value, color in limits)]
    return dashboard.ThresholdsConfig().mode(dashboards.ThresholdsMode.ABSOLUTE).steps(steps)


# ---- variables ------------------------------------------------------------------------------------------------------------------------------
def labels(name: str, label: str, query: str, *, all_values: bool = True) -> Any:
    """A variable whose values are those of a label in Prometheus."""
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(PROMETHEUS).sort(dashboards.VariableSort.ALPHABETICAL_ASC)
    variable = variable.refresh(dashboards.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return (
        variable.multi(True).include_all(True).all_value(".*").current(dashboards.VariableOption(selected=True, text="All", value="$__all"))
        if all_values
        else variable
    )


def choice(name: str, label: str, values: Sequence[str]) -> Any:
    """A variable of fixed values; the first is chosen."""
    chosen = dashboards.VariableOption(selected=True, text=values[0], value=values[0])
    options = [dashboards.VariableOption(selected=value == values[0], text=value, value=value) for value in values]
    return dashboard.CustomVariable(name).label(label).values(",".join(values)).current(chosen).options(options)


# ---- links ----------------------------------------------------------------------------------------------------------------------------------
def to_cluster(namespace: str, name: str) -> str:
    """The address of one cluster's life; the arguments are Grafana's expressions for its namespace and name."""
    return f"/d/fleetwake-cluster?var-namespace={namespace}&var-cluster={name}&${{__url_time_range}}"


def link(title: str, url: str) -> Any:
    """Where a click on a value leads."""
    return dashboard.DashboardLink(title).url(url)


def board(uid: str, title: str, about: str, variables: Iterable[Any], *, since: str = "now-1h") -> dashboard.Dashboard:
    """An empty dashboard that leads to the others and marks when alerts fired."""
    made = (
        dashboard.Dashboard(f"fleetwake / {title}")
        .uid(f"fleetwake-{uid}")
        .description(about)
        .tags([TAG])
        .refresh(REFRESH)
        .time(since, "now")
        .timezone("browser")
    )
    made = made.readonly().tooltip(dashboards.DashboardCursorSync.CROSSHAIR)
    to_all = dashboard.DashboardLink("fleetwake").type(dashboards.DashboardLinkType.DASHBOARDS).tags([TAG]).include_vars(True).keep_time(True)
    made = made.link(to_all)
    for variable in variables:
        made = made.with_variable(variable)
    fired = dashboard.AnnotationQuery().name("Alerts").datasource(PROMETHEUS).enable(True).icon_color(RED)
    return made.annotation(fired.expr('ALERTS{alertname=~"Fleetwake.*", alertstate="firing"}'))


def row(title: str) -> Any:
    """A heading."""
    return dashboard.Row(title)

"""The report of a load test, as JSON and as one HTML page that needs nothing else. Pure."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from streamsim.charts import Axis, Line, chart, legend
from streamsim.latency import Latency
from streamsim.service_view import Fact
from streamsim.summary import MET, MISSED, Summary, Verdict
from streamsim.summary import as_json as summary_as_json
from streamsim.tally import Tally
from streamsim.timeline import Second

PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0)
PERCENT_TICKS: Final = tuple((each, f"{each:g}") for each in (0.0, 90.0, 99.0, 99.9, 99.99))
HEADLINES: Final = {MET: "Thresholds met", MISSED: "Threshold missed"}


class Measured(NamedTuple):
    """The distributions of a load test, whole, and how it went second by second."""

    from_planned: Latency
    from_sent: Latency
    schedule_lag: Latency
    seconds: Sequence[Second]


def measured(tally: Tally) -> Measured:
    """Return what a tally has measured."""
    seconds = tally.timeline.seconds() if tally.timeline else []
    return Measured(tally.from_planned, tally.from_sent, tally.schedule_lag, seconds)


class Outcome(NamedTuple):
    """All there is to say about a load test. `note` says that the generator was the bottleneck, or is empty."""

    summary: Summary
    measured: Measured
    verdict: Verdict
    view: Sequence[Fact]
    settings: Mapping[str, str]
    note: str


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return everything as one JSON object; latencies in milliseconds, the encoded histograms in microseconds."""
    of = outcome.measured
    histograms = {"from_planned": of.from_planned, "from_sent": of.from_sent, "schedule_lag": of.schedule_lag}
    return {
        **summary_as_json(outcome.summary, outcome.verdict),
        "settings": dict(outcome.settings),
        "generator_bottleneck": outcome.note or None,
        "percentiles": {name: {f"{each:g}": of.at(each) for each in PERCENTILES} for name, of in histograms.items()},
        "hdrhistogram": {name: of.encoded() for name, of in histograms.items()},
        "timeline": [second._asdict() for second in of.seconds],
        "service": {fact.name: {"value": fact.value, "unit": fact.unit} for fact in outcome.view},
    }


def as_html(outcome: Outcome, around: Sequence[str] = ()) -> str:
    """Return the page: verdict, latency distribution, timeline, what was seen `around` it, the service's own view."""
    headline = HEADLINES.get(outcome.verdict.exit_code, "Could not run")
    reasons = [line for line in (outcome.note, outcome.verdict.reason) if line]
    rate, url = (html.escape(outcome.settings.get(name, "")) for name in ("rps", "url"))
    body = [
        f"<h1>{rate} requests/s <small>{url}</small></h1>",
        f'<p class="verdict {"good" if outcome.verdict.exit_code == MET else "bad"}">{headline}</p>',
        *(f"<p>{html.escape(line[0].upper() + line[1:])}.</p>" for line in reasons),
        _tiles(outcome.summary),
        "<h2>Latency</h2>" + _distribution(outcome.measured),
        "<h2>Timeline</h2>" + _timeline(outcome.measured.seconds),
        *around,
        "<h2>The service's own view</h2>" + _view(outcome.view),
        "<h2>Options</h2>" + table(("option", "value"), outcome.settings.items()),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Stress report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _tiles(summary: Summary) -> str:
    totals, timings = summary.totals, summary.timings
    tiles = {
        "planned": f"{totals.planned:,}",
        "acknowledged": f"{totals.acknowledged:,}",
        "errors": f"{summary.error_percent:.3g} %",
        "p50": _ms(timings.from_planned.p50),
        "p99": _ms(timings.from_planned.p99),
        "truths delivered": f"{sum(totals.delivered.values()):,}",
        "generator lag p99": _ms(timings.schedule_lag.p99),
    }
    return '<dl class="tiles">' + "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in tiles.items()) + "</dl>"


def _distribution(of: Measured) -> str:
    lines = [
        Line("from planned send", "a", of.from_planned.curve()),
        Line("from actual send", "b", of.from_sent.curve()),
    ]
    # 100 % lies at infinity: the last point is drawn one halving beyond the one before it.
    farthest = max((len(line.points) for line in lines), default=0) / 5
    axis = Axis(
        title="percentile", ticks=PERCENT_TICKS, scale=lambda p: min(-math.log2(max(1 - p / 100, 1e-12)), farthest)
    )
    columns = (of.from_planned, of.from_sent, of.schedule_lag)
    rows = [(f"{each:g} %", *(_number(column.at(each)) for column in columns)) for each in PERCENTILES]
    return (
        '<div class="grid2">'
        + figure("Milliseconds by percentile", lines, axis)
        + table(("percentile", "from planned, ms", "from sent, ms", "generator lag, ms"), rows)
        + "</div>"
        "<p>From the planned send time a frozen service counts with every request that had to wait for it; "
        "from the actual one, waiting inside the generator is left out.</p>"
    )


def _timeline(of: Sequence[Second]) -> str:
    seconds = list(of)
    while seconds and not seconds[-1].planned:  # stragglers: a last second of no length would look like a collapse
        seconds.pop()
    axis = Axis(title="seconds")

    def line(name: str, style: str, field: str) -> Line:
        return Line(name, style, [(each.second, getattr(each, field)) for each in seconds])

    figures = [
        figure("Requests per second", [line("sent", "a", "sent"), line("planned", "b", "planned")], axis),
        figure("Milliseconds from planned send", [line("p99", "a", "p99"), line("p50", "b", "p50")], axis),
        figure("Most in flight", [line("in flight", "a", "in_flight")], axis),
        figure("Errors per second", [line("errors", "c", "errors")], axis),
    ]
    return '<div class="grid2">' + "".join(figures) + "</div>"


def figure(title: str, lines: Sequence[Line], x: Axis) -> str:
    """Return a chart under its title and the names of its lines."""
    return f"<figure><figcaption>{title} {legend(lines)}</figcaption>{chart(lines, x, Axis(title=title))}</figure>"


def _view(view: Sequence[Fact]) -> str:
    if not view:
        return "<p>The service shows no metrics.</p>"
    rows = [(fact.name, shown(fact)) for fact in view]
    return "<p>Differences of its metrics from just before to just after the run.</p>" + table(("", "value"), rows)


def shown(fact: Fact) -> str:
    """Write a number of the service with its unit: counts in full, measures with three digits."""
    return f"{fact.value:,.0f}" if not fact.unit else f"{fact.value:,.3g} {fact.unit}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    cells = "".join(f"<th>{html.escape(each)}</th>" for each in head)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{_number(value)} ms"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value >= 1 else f"{value:.2g}"


STYLE: Final = """
:root{--bg:#fff;--fg:#1b2430;--dim:#5b6675;--edge:#d9dfe7;--a:#0b62c4;--b:#b35900;--c:#c2255c;--good:#157347;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--bg:#12171e;--fg:#e4e9f0;--dim:#9aa7b6;--edge:#2c3643;--a:#6cb0ff;--b:#f0a35e;
--c:#ff7fa8;--good:#5fd39a;--bad:#ff8f86}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:auto;padding:16px}h1{font-size:1.6rem;margin:0}h1 small{display:block;font-size:.9rem;
font-weight:400;color:var(--dim);overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .5rem}
.verdict{font-weight:700;font-size:1.1rem}.good{color:var(--good)}.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:8px;margin:0}
.tiles div{border:1px solid var(--edge);border-radius:6px;padding:8px 12px}dt{color:var(--dim);font-size:.85rem}
dd{margin:0;font-size:1.2rem;font-variant-numeric:tabular-nums}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:20px}figure{margin:0}
figcaption{font-weight:600;font-size:.95rem}svg{width:100%;height:auto;display:block}
svg text{fill:var(--dim);font-size:11px}path{fill:none;stroke-width:1.6;stroke-linecap:round;stroke-linejoin:round}
path.a{stroke:var(--a)}path.b{stroke:var(--b)}path.b{stroke-dasharray:5 3}path.c{stroke:var(--c)}
.grid{stroke:var(--edge);stroke-width:1}
.key{font-weight:400;margin-left:.6em;white-space:nowrap}.key.a{color:var(--a)}.key.b{color:var(--b)}
.key.c{color:var(--c)}.key::before{content:"\\2014\\00a0"}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.95rem}
th,td{text-align:right;padding:4px 6px;border-bottom:1px solid var(--edge);font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}td{overflow-wrap:anywhere}th{color:var(--dim);font-weight:600}
"""

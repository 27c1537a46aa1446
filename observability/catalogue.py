"""docs/telemetry.md, made of the declarations: `python -m observability.catalogue` prints it, `--write` writes it."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from observability.signals import EVENTS, METRICS, RESOURCE, SPANS, STANDARD, Metric

PAGE: Final = Path(__file__).parents[1] / "docs" / "telemetry.md"
_PAGE: Final = """\
# Telemetry: every name

Metrics, spans and log events, each declared once, in
[observability/signals.py](../observability/signals.py). `python -m observability.catalogue --write` makes this page of
it. A test drives the service and the simulator through all that they do, and fails on a name that is not here, and on
one that never appears.

## Metrics

What `/metrics` shows, in the Prometheus text format, or in OpenMetrics where the scraper asks for it.

{metrics}

`http_server_request_duration_seconds` begins with the series of `/predict` and `/feedback` answered with 200, 500 and
503, so that `increase()` sees the first of each.

No label carries a record id or any other unbounded value. A request for a path that does not exist is counted with an
empty `http_route`. At most 16 model versions keep their series in one process. An answer that breaks off because the
service made a mistake behind its head counts under the status that was sent, 200 for example: look for it in the log
(`calsvc.request.failed`) and among the traces (the span is an error, see [traces.md](traces.md)).

RMSLE over any time, over any number of replicas:

    sqrt(sum(increase(calsvc_quality_squared_log_error_total[5m])) / sum(increase(calsvc_quality_matched_total[5m])))

### Buckets

{buckets}

### Made by libraries

{standard}

## Spans

What leaves as OTLP where a collector is named. Which requests have one, and what becomes of it: [traces.md](traces.md).
Metrics, too, say `model_version`, `engine` and `outcome`; all other names are OpenTelemetry's semantic conventions.

{spans}

## Log events

One JSON object a line on stdout. Where stdout is a terminal, readable text: warnings yellow, errors red, what is not
printable escaped. Every line has

| key | meaning |
|---|---|
| `timestamp` | RFC 3339, UTC |
| `level` | `info`, `warning`, `error` |
| `event` | one of the names below |
| `message` | the same for a person |
| `service.name`, `service.version`, `service.instance.id` | whose it is |
| `trace_id`, `span_id` | the span that was current, where there was one |
| `exception.type`, `exception.stacktrace` | the error, where there was one |

and the attributes of its event:

{events}

Ordinary requests leave a line as often as they are traced, one in ten (`OTEL_TRACES_SAMPLER`, or the caller's
`traceparent`); one that failed or took 50 ms always does. No line holds what a request held: no body, no id, no query,
no header, and the stack of a request that died comes without the error's own text, which might quote it. A line has
8 KiB at most; what is left out of a text is counted in its place.

## Resource

What each process says of itself, with its spans and as labels of `target_info`, with whatever stands in
`OTEL_RESOURCE_ATTRIBUTES`.

{resource}
"""


def page() -> str:
    """Return docs/telemetry.md."""
    return _PAGE.format(
        metrics=metrics_table(METRICS),
        buckets=_table(
            ("metric", "upper bounds"),
            ((f"`{metric.exposed}`", _listed(f"{bound:g}" for bound in metric.buckets)) for metric in _histograms()),
        ),
        standard=metrics_table(STANDARD),
        spans=_table(
            ("span", "kind", "of", "attributes", "meaning"),
            ((f"`{span.name}`", span.kind, span.owner, _names(span.attributes), span.help) for span in SPANS),
        ),
        events=_table(
            ("event", "level", "of", "attributes", "meaning"),
            ((f"`{event.name}`", event.level, event.owner, _names(event.attributes), event.help) for event in EVENTS),
        ),
        resource=_table(
            ("attribute", "of", "meaning"), ((f"`{each.name}`", each.owner, each.help) for each in RESOURCE)
        ),
    )


def metrics_table(metrics: Iterable[Metric]) -> str:
    """Return metrics as a Markdown table."""
    return _table(
        ("name", "kind", "unit", "labels", "of", "meaning"),
        (
            (
                f"`{each.exposed}`",
                each.kind,
                f"`{each.unit}`",
                _listed(f"`{name.replace('.', '_')}`" for name in each.attributes),
                each.owner,
                each.help,
            )
            for each in metrics
        ),
    )


def _histograms() -> list[Metric]:
    return [metric for metric in METRICS if metric.buckets]


def _names(attributes: Sequence[str]) -> str:
    """Name attributes: those that are always there, then those that are sometimes."""
    always = _listed(f"`{name}`" for name in attributes if not name.startswith("?"))
    sometimes = _listed(f"`{name[1:]}`" for name in attributes if name.startswith("?"))
    return "; ".join(filter(None, (always, f"sometimes {sometimes}" if sometimes else "")))


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    head, *rest = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([head, "|" + "---|" * len(heads), *rest])


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")

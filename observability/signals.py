"""Every metric and span of the project, declared once: here a name is born, elsewhere it is only used.

`python -m observability.signals` prints the tables of docs/metrics.md and docs/traces.md.
"""

from typing import Final, Literal, NamedTuple

from opentelemetry.metrics import CallbackT, Meter
from prometheus_client import CollectorRegistry

from observability.histogram import Histogram

LATENCY_BUCKETS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
KCAL_BUCKETS: Final = (1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 125.0, 150.0, 175.0, 200.0, 250.0, 300.0, 400.0)
LAG_BUCKETS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 290.0, 300.0, 301.0, 305.0, 315.0, 330.0, 360.0, 420.0)
LAG_BUCKETS_TO_RETENTION: Final = (*LAG_BUCKETS, 600.0, 900.0, 1800.0, 3600.0)


class Metric(NamedTuple):
    """One metric: its OpenTelemetry name and the name under which Prometheus shows it."""

    name: str
    exposed: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class Span(NamedTuple):
    """One kind of span. In `name`, what stands in braces is taken from the span's attributes."""

    name: str
    kind: Literal["server", "client", "internal"]
    owner: Literal["calsvc", "streamsim"]
    help: str
    attributes: tuple[str, ...]
    """Those of every such span, then, behind a `?`, those that only some have."""


REQUEST_DURATION: Final = Metric(
    "http.server.request.duration",
    "http_server_request_duration_seconds",
    "histogram",
    "s",
    "Time from a request's arrival to the end of its answer; probes and scrapes are left out.",
    ("http.route", "http.request.method", "http.response.status_code"),
    LATENCY_BUCKETS,
)
PREDICTIONS: Final = Metric(
    "calsvc.predictions",
    "calsvc_predictions_total",
    "counter",
    "{prediction}",
    "Predictions that were answered with 200.",
    ("model_version", "role"),
)
PREDICTION_KCAL: Final = Metric(
    "calsvc.prediction",
    "calsvc_prediction_kcal",
    "histogram",
    "kcal",
    "Predicted calories.",
    ("model_version",),
    KCAL_BUCKETS,
)
ROLLING_MEAN: Final = Metric(
    "calsvc.prediction.rolling_mean",
    "calsvc_prediction_rolling_mean_kcal",
    "gauge",
    "kcal",
    "Mean of the predictions in the window; absent without any.",
    ("model_version",),
)
FEEDBACK: Final = Metric(
    "calsvc.feedback",
    "calsvc_feedback_total",
    "counter",
    "{feedback}",
    "Feedback by outcome: matched, duplicate, conflict, unknown.",
    ("outcome",),
)
FEEDBACK_LAG: Final = Metric(
    "calsvc.feedback.lag",
    "calsvc_feedback_lag_seconds",
    "histogram",
    "s",
    "Time from a prediction to its truth, by the service's own clock.",
    (),
    LAG_BUCKETS_TO_RETENTION,
)
QUALITY_MATCHED: Final = Metric(
    "calsvc.quality.matched",
    "calsvc_quality_matched_total",
    "counter",
    "{prediction}",
    "Predictions that were charged with their truth.",
    ("model_version", "role"),
)
QUALITY_SQUARED_LOG_ERROR: Final = Metric(
    "calsvc.quality.squared_log_error",
    "calsvc_quality_squared_log_error_total",
    "counter",
    "1",
    "Sum of (log1p(predicted) - log1p(true))^2; divided by the matched, the root is RMSLE.",
    ("model_version", "role"),
)
QUALITY_ABSOLUTE_ERROR: Final = Metric(
    "calsvc.quality.absolute_error",
    "calsvc_quality_absolute_error_kcal_total",
    "counter",
    "kcal",
    "Sum of |predicted - true|; divided by the matched, MAE.",
    ("model_version", "role"),
)
QUALITY_RMSLE: Final = Metric(
    "calsvc.quality.rmsle",
    "calsvc_quality_rmsle",
    "gauge",
    "1",
    "Root mean squared log error over the window; absent without data.",
    ("model_version", "role"),
)
QUALITY_MAE: Final = Metric(
    "calsvc.quality.mae",
    "calsvc_quality_mae_kcal",
    "gauge",
    "kcal",
    "Mean absolute error over the window; absent without data.",
    ("model_version", "role"),
)
QUALITY_SAMPLES: Final = Metric(
    "calsvc.quality.window_samples",
    "calsvc_quality_window_samples",
    "gauge",
    "{prediction}",
    "Labels behind RMSLE and MAE of the window; absent without data.",
    ("model_version", "role"),
)
COVERAGE: Final = Metric(
    "calsvc.feedback.coverage_ratio",
    "calsvc_feedback_coverage_ratio",
    "gauge",
    "1",
    "Share of predictions with a label. window: labels / predictions of the window. matured: of those due.",
    ("basis",),
)
PENDING: Final = Metric(
    "calsvc.pending_predictions",
    "calsvc_pending_predictions",
    "gauge",
    "{prediction}",
    "Predictions that wait for their truth.",
)
PENDING_DROPPED: Final = Metric(
    "calsvc.pending_dropped",
    "calsvc_pending_dropped_total",
    "counter",
    "{prediction}",
    "Predictions forgotten without truth. expired: past the retention. overflow: more than may wait at once.",
    ("reason",),
)
QUALITY_PAIRED: Final = Metric(
    "calsvc.quality.paired",
    "calsvc_quality_paired_total",
    "counter",
    "{prediction}",
    "Records that champion and challenger both answered and whose truth came.",
    ("champion_version", "challenger_version"),
)
QUALITY_PAIRED_SQUARED_LOG_ERROR: Final = Metric(
    "calsvc.quality.paired_squared_log_error",
    "calsvc_quality_paired_squared_log_error_total",
    "counter",
    "1",
    "Sum of (log1p(predicted) - log1p(true))^2 over those records, of each role.",
    ("champion_version", "challenger_version", "role"),
)
QUALITY_PAIRED_SQUARED_DIFFERENCE: Final = Metric(
    "calsvc.quality.paired_squared_difference",
    "calsvc_quality_paired_squared_difference_total",
    "counter",
    "1",
    "Sum over those records of (challenger's squared log error - champion's)^2: the spread of the mean difference.",
    ("champion_version", "challenger_version"),
)
SHADOW: Final = Metric(
    "calsvc.shadow",
    "calsvc_shadow_total",
    "counter",
    "{prediction}",
    "Records offered to the challenger after their answer. shed: left out to protect the service. failed: no number.",
    ("outcome",),
)
MODEL_CHECKS: Final = Metric(
    "calsvc.model_checks",
    "calsvc_model_checks_total",
    "counter",
    "{check}",
    "Looks at the source of the model: unchanged, swapped, rejected (the old one stays), unreachable, removed.",
    ("role", "outcome"),
)
MODEL_INFO: Final = Metric(
    "calsvc.model_info",
    "calsvc_model_info",
    "gauge",
    "1",
    "Always 1: which model serves.",
    ("model_version", "engine", "run_id", "git_sha"),
)
TRAINING_RMSLE: Final = Metric(
    "calsvc.model.training_rmsle",
    "calsvc_model_training_rmsle",
    "gauge",
    "1",
    "RMSLE that training measured on rows it had held back, to compare with; absent where it told none.",
    ("model_version", "role"),
)
SPANS_DROPPED: Final = Metric(
    "calsvc.spans_dropped",
    "calsvc_spans_dropped_total",
    "counter",
    "{span}",
    "Spans that were lost. undelivered: no collector took them. overflow: too many waited for one.",
    ("reason",),
)
EVENT_LOOP_LAG: Final = Metric(
    "calsvc.event_loop.lag",
    "calsvc_event_loop_lag_seconds",
    "gauge",
    "s",
    "How late the event loop woke from its last short sleep.",
)

METRICS: Final = (
    *(REQUEST_DURATION, PREDICTIONS, PREDICTION_KCAL, ROLLING_MEAN, FEEDBACK, FEEDBACK_LAG),
    *(QUALITY_MATCHED, QUALITY_SQUARED_LOG_ERROR, QUALITY_ABSOLUTE_ERROR),
    *(QUALITY_RMSLE, QUALITY_MAE, QUALITY_SAMPLES, COVERAGE, PENDING, PENDING_DROPPED),
    *(QUALITY_PAIRED, QUALITY_PAIRED_SQUARED_LOG_ERROR, QUALITY_PAIRED_SQUARED_DIFFERENCE),
    *(SHADOW, MODEL_CHECKS, MODEL_INFO, TRAINING_RMSLE, SPANS_DROPPED, EVENT_LOOP_LAG),
)

REQUEST: Final = Span(
    "{http.request.method} {http.route}",
    "server",
    "calsvc",
    "One request, from its arrival to the end of its answer. That of a feedback links to that of the prediction.",
    (
        *("http.request.method", "url.scheme", "url.path", "http.response.status_code"),
        *("?http.route", "?http.request.method_original", "?error.type", "?pyroscope.profile.id"),
    ),
)
SCORE: Final = Span(
    "score",
    "internal",
    "calsvc",
    "The model's work on one record: features and trees.",
    ("model_version", "engine", "?error.type"),
)
JOIN: Final = Span(
    "join",
    "internal",
    "calsvc",
    "Looking for the prediction that a truth belongs to. outcome: matched, duplicate, conflict, unknown.",
    ("?outcome", "?error.type"),
)
CALL: Final = Span(
    "{http.request.method} {url.template}",
    "client",
    "streamsim",
    "One request of the simulator, with its repetition on a fresh connection, where there was one.",
    (
        *("http.request.method", "server.address", "server.port", "url.full", "url.template"),
        *("?http.response.status_code", "?http.request.resend_count", "?error.type"),
    ),
)

SPANS: Final = (REQUEST, SCORE, JOIN, CALL)


def create_histogram(registry: CollectorRegistry, metric: Metric) -> Histogram:
    """Create a declared histogram in the registry that is scraped.

    Not through OpenTelemetry's meter: its SDK cleans and hashes the attributes of each measurement anew, many times the
    cost of finding a bucket, and this is the one kind of metric that every request touches.
    """
    labels = [name.replace(".", "_") for name in metric.attributes]
    histogram = Histogram(metric.exposed, metric.help, labels, metric.buckets)
    registry.register(histogram)
    return histogram


def observe(meter: Meter, metric: Metric, callback: CallbackT) -> None:
    """Let `callback` be asked for a declared counter or gauge at each scrape: nothing is touched in between."""
    create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
    create(metric.name, callbacks=[callback], unit=metric.unit, description=metric.help)


def markdown_table() -> str:
    """Return the metrics as the Markdown table of docs/metrics.md."""
    rows = ["| name | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{name.replace('.', '_')}`" for name in metric.attributes)
        rows.append(f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.help.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def spans_table() -> str:
    """Return the spans as the Markdown table of docs/traces.md."""
    rows = ["| span | kind | of | attributes | meaning |", "|---|---|---|---|---|"]
    for span in SPANS:
        always = ", ".join(f"`{name}`" for name in span.attributes if not name.startswith("?"))
        sometimes = ", ".join(f"`{name[1:]}`" for name in span.attributes if name.startswith("?"))
        attributes = "; sometimes ".join(filter(None, (always, sometimes)))
        rows.append(f"| `{span.name}` | {span.kind} | {span.owner} | {attributes} | {span.help} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table(), spans_table(), sep="\n\n")

"""Every metric, span and log event of the project, declared once: here a name is born, elsewhere it is only used.

Nothing else: `instruments` makes instruments of metrics, `events` lines of events, `catalogue` docs/telemetry.md.
"""

from typing import Final, Literal, NamedTuple

Owner = Literal["calsvc", "streamsim", "observability", "prometheus_client", "opentelemetry", "libraries"]
"""Who makes a signal. `observability`: the part that calsvc and streamsim share."""

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
    kind: Literal["counter", "up_down_counter", "gauge", "histogram"]
    unit: str
    help: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    owner: Owner = "calsvc"
    """Whose `/metrics` shows it."""


class Span(NamedTuple):
    """One kind of span. In `name`, what stands in braces is taken from the span's attributes."""

    name: str
    kind: Literal["server", "client", "internal"]
    owner: Owner
    help: str
    attributes: tuple[str, ...]
    """Those of every such span, then, behind a `?`, those that only some have."""


class Event(NamedTuple):
    """One kind of log line. In `message`, what stands in braces is taken from the line's attributes."""

    name: str
    level: Literal["info", "warning", "error", "as logged"]
    owner: Owner
    message: str
    help: str
    attributes: tuple[str, ...] = ()
    """As those of a span. Every line may also name its span, and have an exception."""


class Fact(NamedTuple):
    """A resource attribute: what a process says of itself with each span and in `target_info`."""

    name: str
    owner: Owner
    help: str


REQUEST_DURATION: Final = Metric(
    "http.server.request.duration",
    "http_server_request_duration_seconds",
    "histogram",
    "s",
    "Time from a request's arrival to the end of its answer; probes and scrapes are left out.",
    ("http.route", "http.request.method", "http.response.status_code", "url.scheme", "error.type"),
    LATENCY_BUCKETS,
)
ACTIVE_REQUESTS: Final = Metric(
    "http.server.active_requests",
    "http_server_active_requests",
    "up_down_counter",
    "{request}",
    "Requests that are being answered; probes and scrapes are left out.",
    ("http.request.method", "url.scheme"),
)
PREDICTIONS: Final = Metric(
    "calsvc.predictions",
    "calsvc_predictions_total",
    "counter",
    "{prediction}",
    "Predictions that were answered with 200.",
    ("model_version", "role"),
)
REPLACED: Final = Metric(
    "calsvc.predictions_replaced",
    "calsvc_predictions_replaced_total",
    "counter",
    "{prediction}",
    "Predictions whose record was predicted again before their label came: coverage leaves them out.",
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
    "Share of predictions with a label. window: labels / predictions of the window. matured: of those due. "
    "Without those that were replaced.",
    ("basis",),
)
PENDING: Final = Metric(
    "calsvc.pending_predictions",
    "calsvc_pending_predictions",
    "gauge",
    "{prediction}",
    "Predictions that wait for their truth; where replicas share a store, each of them tells those of all.",
)
PENDING_DROPPED: Final = Metric(
    "calsvc.pending_dropped",
    "calsvc_pending_dropped_total",
    "counter",
    "{prediction}",
    "Predictions forgotten without truth. expired: past the retention. overflow: more than may wait at once.",
    ("reason",),
)
STORE_IS_DEGRADED: Final = Metric(
    "calsvc.store.degraded",
    "calsvc_store_degraded",
    "gauge",
    "1",
    "1 while the store cannot keep predictions as it should; they are answered all the same.",
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


SIM_PLANNED: Final = Metric(
    "streamsim.planned",
    "streamsim_planned_total",
    "counter",
    "{record}",
    "Arrivals whose time had come, sent or not.",
    owner="streamsim",
)
SIM_REQUESTS: Final = Metric(
    "streamsim.requests",
    "streamsim_requests_total",
    "counter",
    "{request}",
    "What became of records (predict) and of each delivery (feedback), by result; docs/simulator.md explains them.",
    ("call", "result"),
    owner="streamsim",
)
SIM_IN_FLIGHT: Final = Metric(
    "streamsim.in_flight",
    "streamsim_in_flight",
    "gauge",
    "{request}",
    "Requests that wait for their answer; a prediction also between two tries.",
    ("call",),
    owner="streamsim",
)
SIM_REQUEST_DURATION: Final = Metric(
    "streamsim.request.duration",
    "streamsim_request_duration_seconds",
    "histogram",
    "s",
    "Time to the whole answer, from the planned or the actual send; predictions: acknowledged ones and timeouts.",
    ("call", "basis"),
    LATENCY_BUCKETS,
    "streamsim",
)
SIM_SCHEDULE_LAG: Final = Metric(
    "streamsim.schedule_lag",
    "streamsim_schedule_lag_seconds",
    "histogram",
    "s",
    "How late the simulator itself sent a record.",
    (),
    LATENCY_BUCKETS,
    "streamsim",
)
SIM_TARGET_RATE: Final = Metric(
    "streamsim.target_rate",
    "streamsim_target_rate",
    "gauge",
    "{record}/s",
    "Records per second that are planned now; 0 between bursts and after the last one.",
    owner="streamsim",
)
SIM_OWED: Final = Metric(
    "streamsim.feedback.owed",
    "streamsim_feedback_owed",
    "gauge",
    "{feedback}",
    "Truths taken on and neither delivered nor given up, due or not.",
    owner="streamsim",
)
SIM_DUE: Final = Metric(
    "streamsim.feedback.due",
    "streamsim_feedback_due",
    "gauge",
    "{feedback}",
    "Truths that are due and not delivered: waiting for their turn, under way, or to be tried again.",
    owner="streamsim",
)
SIM_DELIVERED: Final = Metric(
    "streamsim.feedback.delivered",
    "streamsim_feedback_delivered_total",
    "counter",
    "{feedback}",
    "Truths that the service has settled: matched, duplicate, conflict, unknown, rejected.",
    ("status",),
    owner="streamsim",
)
SIM_GIVEN_UP: Final = Metric(
    "streamsim.feedback.given_up",
    "streamsim_feedback_given_up_total",
    "counter",
    "{feedback}",
    "Truths that nothing had settled when their time was over: they are not sent any more.",
    owner="streamsim",
)
SIM_RETRIES: Final = Metric(
    "streamsim.retries",
    "streamsim_retries_total",
    "counter",
    "{request}",
    "Requests sent again. stale_connection: at once. not_settled: a truth. Others: what became of a prediction's try.",
    ("call", "reason"),
    owner="streamsim",
)
SIM_RUN_INFO: Final = Metric(
    "streamsim.run_info",
    "streamsim_run_info",
    "gauge",
    "1",
    "Always 1: what runs, stream or stress.",
    ("mode",),
    owner="streamsim",
)

METRICS: Final = (
    *(REQUEST_DURATION, ACTIVE_REQUESTS, PREDICTIONS, REPLACED, PREDICTION_KCAL, ROLLING_MEAN, FEEDBACK, FEEDBACK_LAG),
    *(QUALITY_MATCHED, QUALITY_SQUARED_LOG_ERROR, QUALITY_ABSOLUTE_ERROR),
    *(QUALITY_RMSLE, QUALITY_MAE, QUALITY_SAMPLES, COVERAGE, PENDING, PENDING_DROPPED, STORE_IS_DEGRADED),
    *(QUALITY_PAIRED, QUALITY_PAIRED_SQUARED_LOG_ERROR, QUALITY_PAIRED_SQUARED_DIFFERENCE),
    *(SHADOW, MODEL_CHECKS, MODEL_INFO, TRAINING_RMSLE, SPANS_DROPPED, EVENT_LOOP_LAG),
    *(SIM_PLANNED, SIM_REQUESTS, SIM_IN_FLIGHT, SIM_REQUEST_DURATION, SIM_SCHEDULE_LAG, SIM_TARGET_RATE),
    *(SIM_OWED, SIM_DUE, SIM_DELIVERED, SIM_GIVEN_UP, SIM_RETRIES, SIM_RUN_INFO),
)


def _of_process(name: str, kind: Literal["counter", "gauge"], unit: str, meaning: str) -> Metric:
    return Metric(name.removesuffix("_total"), name, kind, unit, meaning, owner="prometheus_client")


STANDARD: Final = (
    _of_process("process_cpu_seconds_total", "counter", "s", "Total user and system CPU time spent in seconds."),
    _of_process("process_resident_memory_bytes", "gauge", "By", "Resident memory size in bytes."),
    _of_process("process_virtual_memory_bytes", "gauge", "By", "Virtual memory size in bytes."),
    _of_process("process_start_time_seconds", "gauge", "s", "Start time of the process since unix epoch in seconds."),
    _of_process("process_open_fds", "gauge", "{file}", "Number of open file descriptors."),
    _of_process("process_max_fds", "gauge", "{file}", "Maximum number of open file descriptors."),
    Metric("target", "target_info", "gauge", "1", "Target metadata", owner="opentelemetry"),
)
"""Made by libraries, on Linux, for every process with a /metrics. `target_info` has the resource as labels."""

REQUEST: Final = Span(
    "{http.request.method} {http.route}",
    "server",
    "calsvc",
    "One request, from its arrival to the end of its answer. That of a feedback links to that of the prediction.",
    (
        *("http.request.method", "url.scheme", "url.path", "http.response.status_code"),
        *("?http.route", "?http.request.method_original", "?error.type"),
        *("?server.address", "?server.port", "?client.address", "?client.port"),
        *("?network.protocol.version", "?user_agent.original"),
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
    "One request of the simulator, or its repetition on a fresh connection. A feedback's links to the prediction's.",
    (
        *("http.request.method", "server.address", "server.port", "url.full", "url.template"),
        *("?http.response.status_code", "?http.request.resend_count", "?error.type"),
    ),
)

SPANS: Final = (REQUEST, SCORE, JOIN, CALL)

MODEL_INSTALLED: Final = Event(
    "calsvc.model.installed",
    "info",
    "calsvc",
    "{model_version} is the {role} now ({engine})",
    "A model was opened and proven, and answers from now on, or shadows as challenger.",
    ("role", "model_version", "engine", "?registered"),
)
MODEL_KEPT: Final = Event(
    "calsvc.model.kept",
    "warning",
    "calsvc",
    "the {role} stays as it is: {error.message}",
    "A new model could not be had or was refused; what serves goes on. Once for each reason, not at every check.",
    ("role", "outcome", "error.message"),
)
MODEL_RESTORED: Final = Event(
    "calsvc.model.restored",
    "warning",
    "calsvc",
    "serving the last good model, {registered}, from its local copy: {error.message}",
    "At the start the registry was of no use.",
    ("registered", "error.message"),
)
MODEL_NOT_REMEMBERED: Final = Event(
    "calsvc.model.not_remembered",
    "warning",
    "calsvc",
    "{registered} serves, but is not remembered: {error.message}",
    "If the registry is down at the next start, an older model will serve.",
    ("registered", "error.message"),
)
MODEL_CHECK_FAILED: Final = Event(
    "calsvc.model.check_failed",
    "error",
    "calsvc",
    "the check of the {role} failed",
    "A mistake of this program, with its stack; what serves goes on.",
    ("role",),
)
STORE_RESTORED: Final = Event(
    "calsvc.store.restored",
    "info",
    "calsvc",
    "{waiting} predictions of before wait in {file}",
    "The journal of an earlier process was read, or what replicas held that are gone.",
    ("file", "waiting"),
)
STORE_DAMAGED: Final = Event(
    "calsvc.store.damaged",
    "error",
    "calsvc",
    "{file} cannot be read ({error.message}): it is kept as {aside}, and a new one begins",
    "A file was cut off or altered, or is an earlier version's. What waited in it is not known any more.",
    ("file", "error.message", "aside"),
)
STORE_DEGRADED: Final = Event(
    "calsvc.store.degraded",
    "warning",
    "calsvc",
    "{store} does not keep predictions: {error.message}",
    "Once an outage. Predictions are answered and kept here until it is over.",
    ("store", "error.message"),
)
STORE_BACK: Final = Event(
    "calsvc.store.back",
    "info",
    "calsvc",
    "{store} keeps predictions again",
    "The outage is over, and what had to wait for it is kept.",
    ("store",),
)
STORE_HELD: Final = Event(
    "calsvc.store.held",
    "warning",
    "calsvc",
    "{predictions} predictions are held in {file} for the next process",
    "A shared store was out of reach to the end. Who starts next with the same folder tells it what was held.",
    ("predictions", "file"),
)
STORE_LOST: Final = Event(
    "calsvc.store.lost",
    "error",
    "calsvc",
    "the process ends before {predictions} predictions could be kept",
    "The store was out of reach to the end: their truth will find nothing.",
    ("predictions",),
)
CHALLENGER_SILENT: Final = Event(
    "calsvc.challenger.silent",
    "warning",
    "calsvc",
    "the challenger {model_version} gave no answer: {error.type}",
    "The first record on which a challenger fails; the rest of them are counted in `calsvc_shadow_total`.",
    ("model_version", "error.type"),
)
REQUEST_ANSWERED: Final = Event(
    "calsvc.request.answered",
    "info",
    "calsvc",
    "{http.request.method} {http.route} {http.response.status_code}",
    "One request in ten, and every slow one. `http.route` is empty for a path that does not exist.",
    ("http.request.method", "http.route", "http.response.status_code", "duration_ms"),
)
REQUEST_FAILED: Final = Event(
    "calsvc.request.failed",
    "error",
    "calsvc",
    "{http.request.method} {http.route} {http.response.status_code}",
    "Every request that was answered with 5xx, but refusals with 503.",
    ("http.request.method", "http.route", "http.response.status_code", "duration_ms"),
)
REQUESTS_REFUSED: Final = Event(
    "calsvc.requests.refused",
    "warning",
    "calsvc",
    "overloaded: {refused} requests refused in the last {seconds} s",
    "More requests waited than may. They have no lines of their own.",
    ("refused", "seconds"),
)
PAGE_FAILED: Final = Event(
    "calsvc.page.failed",
    "error",
    "calsvc",
    "the live page has no new numbers",
    "A mistake of this program, with its stack; predictions are not touched by it.",
)
SERVICE_READY: Final = Event(
    "calsvc.service.ready",
    "info",
    "calsvc",
    "calsvc {version} answers on {url} with {model_version} ({engine})",
    "The start is over.",
    ("version", "url", "model_version", "engine", "?admin_url"),
)
SERVICE_DRAINING: Final = Event(
    "calsvc.service.draining",
    "info",
    "calsvc",
    "not ready any more; the port closes in {seconds} s",
    "The process was told to go.",
    ("seconds",),
)
SERVICE_STOPPED: Final = Event(
    "calsvc.service.stopped",
    "info",
    "calsvc",
    "no request is left, and telemetry is flushed",
    "The last line of a process that left in order.",
)
RUN_STARTED: Final = Event(
    "streamsim.run.started",
    "info",
    "streamsim",
    "to {server.address}:{server.port}",
    "A stream begins, or the delivery of what earlier ones owe.",
    ("server.address", "server.port"),
)
SERVICE_UNREACHABLE: Final = Event(
    "streamsim.service.unreachable",
    "warning",
    "streamsim",
    "no request was answered for a second: {causes}",
    "Once an outage. `causes` counts them by what became of them.",
    ("causes",),
)
SERVICE_REACHABLE: Final = Event(
    "streamsim.service.reachable",
    "info",
    "streamsim",
    "the service answers again",
    "The outage is over.",
)
RUN_ENDED: Final = Event(
    "streamsim.run.ended",
    "info",
    "streamsim",
    "{planned} planned, {acknowledged} acknowledged, {failed} failed, {delivered} truths delivered, {owed} owed, "
    "{given_up} given up",
    "The run's totals, as in its summary.",
    (
        *("planned", "acknowledged", "failed", "retried", "interrupted", "delivered", "owed", "given_up"),
        *("seconds", "p99_ms"),
    ),
)
RUN_FAILED: Final = Event(
    "streamsim.run.failed",
    "error",
    "streamsim",
    "{reason}",
    "It could not run or deliver, or missed its threshold.",
    ("reason",),
)
SPANS_LOST: Final = Event(
    "telemetry.spans.lost",
    "warning",
    "observability",
    "{spans} spans could not be delivered",
    "Once an outage of the collector; the exporter's own lines say why.",
    ("spans",),
)
SETTING_WARNING: Final = Event(
    "calsvc.setting.warning",
    "warning",
    "calsvc",
    "{warning}",
    "At the start: a setting that has no effect, or one that leaves the service open.",
    ("warning",),
)
LINES_LOST: Final = Event(
    "telemetry.lines.lost",
    "warning",
    "observability",
    "{lost} log lines were lost: too many waited for their reader, or they could not be written",
    "Logged when lines can be written again: the service does not wait for a reader.",
    ("lost",),
)
PROFILES_MISSING: Final = Event(
    "telemetry.profiles.missing",
    "warning",
    "observability",
    "no profiles: {cause}",
    "They were asked for, and cannot be made.",
    ("cause",),
)
PROFILES_LOST: Final = Event(
    "telemetry.profiles.lost",
    "warning",
    "observability",
    "no Pyroscope server at {server.address}:{server.port} ({cause}): profiles are lost until there is one",
    "Looked for at the start and every 15 s; told once an outage.",
    ("server.address", "server.port", "cause"),
)
PROFILES_BACK: Final = Event(
    "telemetry.profiles.back",
    "info",
    "observability",
    "profiles arrive at {server.address}:{server.port} again",
    "A Pyroscope server that was missing is there.",
    ("server.address", "server.port"),
)
SERVER_LINE: Final = Event(
    "uvicorn.line",
    "as logged",
    "libraries",
    "",
    "A line of the HTTP server's own: bytes that are no HTTP, an application that died (with its stack).",
    ("logger",),
)
LIBRARY_LINE: Final = Event(
    "library.line",
    "as logged",
    "libraries",
    "",
    "A line of any other library, Python's warnings among them.",
    ("logger",),
)

EVENTS: Final = (
    *(SERVICE_READY, SERVICE_DRAINING, SERVICE_STOPPED, REQUEST_ANSWERED, REQUEST_FAILED, REQUESTS_REFUSED),
    *(MODEL_INSTALLED, MODEL_KEPT, MODEL_RESTORED, MODEL_NOT_REMEMBERED, MODEL_CHECK_FAILED, CHALLENGER_SILENT),
    *(STORE_RESTORED, STORE_DAMAGED, STORE_DEGRADED, STORE_BACK, STORE_HELD, STORE_LOST),
    *(RUN_STARTED, RUN_ENDED, RUN_FAILED, SERVICE_UNREACHABLE, SERVICE_REACHABLE),
    *(PAGE_FAILED, LINES_LOST, SPANS_LOST, SETTING_WARNING),
    *(PROFILES_MISSING, PROFILES_LOST, PROFILES_BACK, SERVER_LINE, LIBRARY_LINE),
)

RESOURCE: Final = (
    Fact("service.name", "calsvc", "`calsvc` or `streamsim`."),
    Fact("service.version", "calsvc", "Of this package."),
    Fact("service.instance.id", "calsvc", "Host name and a random part: another one at each start."),
    Fact("vcs.ref.head.revision", "calsvc", "The commit, where it is known; in no log line."),
    Fact("telemetry.sdk.name", "opentelemetry", "As the two below: in no log line."),
    Fact("telemetry.sdk.language", "opentelemetry", ""),
    Fact("telemetry.sdk.version", "opentelemetry", ""),
)

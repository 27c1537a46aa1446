"""The process's providers: metrics that Prometheus scrapes, spans that a collector receives."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from observability.otel_environment import BATCH_DEFAULTS, span_exporters
from observability.tracing import SCOPE, SHUTDOWN_TIMEOUT, CountingProcessor, Tracing

QUEUE: Final = "OTEL_BSP_MAX_QUEUE_SIZE"


class Telemetry:
    """Metrics and spans of one process, or of one test. Nothing is global unless `make_global` is called.

    Args:
        resource: attributes of the process.
        processors: take ended spans; none: no span is made.
        sampler: decides which requests are recorded; None: as OTEL_TRACES_SAMPLER says.
    """

    def __init__(
        self, resource: Mapping[str, str], processors: Sequence[SpanProcessor] = (), sampler: Sampler | None = None
    ) -> None:
        described = Resource.create(dict(resource))
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series per histogram, of no use here
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=self.registry)
        self._meter_provider = MeterProvider([reader], described, shutdown_on_exit=False)
        self.tracing = Tracing(described, processors, sampler)
        self.tracer: Tracer = self.tracing.provider.get_tracer(SCOPE) if processors else trace.get_tracer(SCOPE)
        """Where spans are made: those of this process, or, without processors, of whoever has set a global provider."""

    @property
    def meter(self) -> Meter:
        """Where instruments are made."""
        return self._meter_provider.get_meter(SCOPE)

    def make_global(self) -> None:
        """Let every tracer of the process that names no provider use this one: those of libraries, for example."""
        trace.set_tracer_provider(self.tracing.provider)

    def shutdown(self) -> None:
        """Export what waits, and close; see `CountingProcessor.shutdown` for how long that takes."""
        self.tracing.shutdown()
        self._meter_provider.shutdown()


def processors_from(environ: Mapping[str, str], patience: float = SHUTDOWN_TIMEOUT) -> list[SpanProcessor]:
    """Return what exports spans as the OTEL_* variables, which `otel_environment` has checked, ask for.

    Args:
        environ: the environment.
        patience: see `CountingProcessor`.
    """
    room = int(environ.get(QUEUE, "").strip() or BATCH_DEFAULTS[QUEUE])
    makers: list[Callable[[], SpanExporter]] = span_exporters(environ)
    return [CountingProcessor(make(), room, patience) for make in makers]

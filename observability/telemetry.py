"""The ways out of the process: metrics for Prometheus to fetch, spans to a collector where one is named."""

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

SCOPE = "calsvc"


class Exposition(NamedTuple):
    """One scrape."""

    content: bytes
    media_type: str


class Telemetry:
    """Providers of one process (or one test): nothing global, everything closed by `shutdown`."""

    def __init__(self, resource: Mapping[str, str], *, traces: bool) -> None:
        described = Resource.create(dict(resource))
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series per histogram that says when it began: nobody asked for it
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=self.registry)
        self._meter_provider = MeterProvider([reader], described, shutdown_on_exit=False)
        self.tracer_provider = _otlp_tracer_provider(described) if traces else NoOpTracerProvider()

    @property
    def meter(self) -> Meter:
        """Where instruments are made."""
        return self._meter_provider.get_meter(SCOPE)

    @property
    def tracing(self) -> bool:
        """True when spans leave the process."""
        return isinstance(self.tracer_provider, TracerProvider)

    def exposition(self, accept: str) -> Exposition:
        """Render all metrics: OpenMetrics for those who ask for it, else the plain text format."""
        encode, media_type = choose_encoder(accept)
        return Exposition(encode(self.registry), media_type)

    def shutdown(self) -> None:
        """Flush and close; blocks for as long as the span exporter's timeout at most."""
        if isinstance(self.tracer_provider, TracerProvider):
            self.tracer_provider.shutdown()
        self._meter_provider.shutdown()


def _otlp_tracer_provider(resource: Resource) -> TracerProvider:
    # Sampler, endpoint, headers and timeouts come from the standard OTEL_* variables, which the SDK reads itself.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - 40 ms, rarely

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider

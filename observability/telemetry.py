"""The ways out of the process: metrics for Prometheus to fetch, spans to a collector where one is named."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from observability.sampling import Collector
from observability.tracing import RequestSpans

if TYPE_CHECKING:
    from observability.otlp import SpanQueue

SCOPE = "calsvc"
_VERSIONED: Final = re.compile(
    r"\s*[a-z]+/[a-z-]+\s*;\s*version\s*=\s*\d{1,2}\.\d{1,2}\.\d{1,2}(\s*;\s*[a-z]+=[a-z0-9.-]{1,20})*\s*",
    re.ASCII,
)
"""One media range, with the version that it wants first."""


class Exposition(NamedTuple):
    """One scrape."""

    content: bytes
    media_type: str


class Telemetry:
    """Providers of one process (or one test): nothing global, everything closed by `shutdown`."""

    def __init__(self, resource: Mapping[str, str], collector: Collector | None = None) -> None:
        described = Resource.create(dict(resource))
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series per histogram that says when it began: nobody asked for it
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        reader = PrometheusMetricReader(scope_info_enabled=False, registry=self.registry)
        self._meter_provider = MeterProvider([reader], described, shutdown_on_exit=False)
        self._processor = _span_queue(collector) if collector else None
        self.request_spans = RequestSpans(self._processor, described, SCOPE) if self._processor else None
        """Where server spans begin; None where none leave the process."""

    @property
    def meter(self) -> Meter:
        """Where instruments are made."""
        return self._meter_provider.get_meter(SCOPE)

    def exposition(self, accept: str) -> Exposition:
        """Render all metrics: OpenMetrics for those who ask for it, else the plain text format."""
        encode, media_type = choose_encoder(readable(accept))
        return Exposition(encode(self.registry), media_type)

    def dropped_spans(self) -> Mapping[str, int]:
        """Return how many spans were lost, by reason; none where none leave the process."""
        return self._processor.dropped() if self._processor is not None else {"undelivered": 0, "overflow": 0}

    def shutdown(self) -> None:
        """Flush and close; blocks for as long as the span exporter's timeout at most."""
        if self._processor is not None:
            self._processor.shutdown()
        self._meter_provider.shutdown()


def readable(accept: str) -> str:
    """Return the media ranges of an Accept header that name no version, or one that is one.

    The library takes any text for a version, reads numbers in it, and repeats it in the answer.
    """
    return ",".join(each for each in accept.split(",") if "version" not in each or _VERSIONED.fullmatch(each))


def _span_queue(collector: Collector) -> "SpanQueue":
    from observability.otlp import (  # noqa: PLC0415 - an HTTP client, for those who have a collector
        OtlpJsonExporter,
        SpanQueue,
    )

    return SpanQueue(OtlpJsonExporter(collector))

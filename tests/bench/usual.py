"""Parts of the service as most people would write them, for `partial.py` to put in the place of its own."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from calsvc.endpoints import Answer, Reply
from observability.signals import Metric
from observability.tracing import Tracing

METERS: Final = MeterProvider([PrometheusMetricReader(registry=CollectorRegistry())])


def endpoint(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint for Starlette's request and response objects."""

    async def call(request: Request) -> Response:
        reply = await answer(request.state.service, await request.body())
        headers = {name.decode(): value.decode() for name, value in reply.headers}
        return Response(reply.body, media_type="application/json", headers=headers, background=_after(reply))

    return call


def _after(reply: Reply) -> BackgroundTask | None:
    async def call() -> None:
        if reply.sent is not None and (rest := reply.sent()) is not None:
            await rest

    return BackgroundTask(call) if reply.sent is not None else None


class SdkHistogram:
    """OpenTelemetry's histogram, with as much of prometheus_client's interface as the service uses."""

    def __init__(self, _: CollectorRegistry, metric: Metric) -> None:
        meter = METERS.get_meter("bench")
        self._names = metric.attributes
        self._histogram = meter.create_histogram(
            metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
        )
        self._alone = _Child(self._histogram, {})
        self.observe = self._alone.observe

    def labels(self, *values: str) -> "_Child":
        """Return what observes with these attributes."""
        return _Child(self._histogram, dict(zip(self._names, values, strict=True)))

    def collect(self) -> list[Any]:
        """Return nothing: the live page has no figures here."""
        return []


class _Child:
    def __init__(self, histogram: Histogram, attributes: dict[str, str]) -> None:
        self._histogram = histogram
        self._attributes = attributes

    def observe(self, value: float, _exemplar: object = None) -> None:
        """Record a value; OpenTelemetry takes an exemplar from the context."""
        self._histogram.record(value, self._attributes)


class Instrumented:
    """OpenTelemetry's middleware around every request, with its spans of receive and send and its metrics."""

    def __init__(self, app: ASGIApp, tracing: Tracing, *_: object) -> None:
        self.active: dict[tuple[str, str], int] = {}
        self._app = OpenTelemetryMiddleware(app, tracer_provider=tracing.provider, meter_provider=METERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._app(scope, receive, send)

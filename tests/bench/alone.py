"""The service's standard parts without the service: what is left to be spent on everything that it does besides.

Starlette's route to a raw ASGI endpoint on uvicorn, the scorer, a dictionary for predictions, two histograms of
prometheus_client, and OpenTelemetry's middleware around every tenth request. No limits, no journal, no quality, no
labels by status, no log lines.
"""

import os
import random
import time
from typing import Final

import msgspec
import uvicorn
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import Histogram
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from calsvc.http.schema import Prediction, RecordId, parse_workout
from calsvc.model.bundle import load_bundle
from calsvc.model.scorer import OnnxScorer
from calsvc.settings import Settings
from tests.bench.rungs import RATIO

BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


class Predict:
    """Raw ASGI endpoint."""

    def __init__(self, provider: TracerProvider) -> None:
        self._scorer = OnnxScorer(load_bundle(Settings.from_env(os.environ).bundle_path))
        self._tracer = provider.get_tracer("alone")
        self._pending: dict[RecordId, tuple[float, float]] = {}
        self._duration = Histogram("duration", "seconds", ["route"], buckets=BUCKETS).labels("/predict")
        self._kcal = Histogram("kcal", "kcal", buckets=(50, 100, 150, 200, 250, 300))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one workout."""
        started = time.perf_counter()
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        workout = parse_workout(body)
        if scope.get("traced"):
            with self._tracer.start_as_current_span("score"):
                kcal = await self._scorer.score(workout)
        else:
            kcal = await self._scorer.score(workout)
        self._pending[workout.id] = kcal, started
        content = msgspec.json.encode(Prediction(workout.id, kcal))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        self._duration.observe(time.perf_counter() - started)
        self._kcal.observe(kcal)


def create_app() -> ASGIApp:
    """Return the application: every tenth request goes through the middleware."""
    provider = TracerProvider(ALWAYS_ON)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    app = Starlette(routes=[Route("/predict", Predict(provider), methods=["POST"])])
    traced = OpenTelemetryMiddleware(
        app, tracer_provider=provider, meter_provider=NoOpMeterProvider(), exclude_spans=["receive", "send"]
    )

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and random.random() < RATIO:
            scope["traced"] = True
            await traced(scope, receive, send)
        else:
            await app(scope, receive, send)

    return gate


if __name__ == "__main__":
    port = int(os.environ["CALSVC_PORT"])
    uvicorn.run(create_app(), port=port, loop="uvloop", http="httptools", log_level="warning", access_log=False)

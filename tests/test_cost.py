"""What a request costs, counted in calls instead of in time: the same on every machine, and it does not flake.

A change that makes these numbers grow makes the service slower. If it is worth it, raise the number in the same
commit; `just bench ladder` tells what it costs in microseconds.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from observability.sampling import Collector
from starlette.types import ASGIApp, Message

from calsvc.app import create_app
from calsvc.lifecycle import Lifecycle
from calsvc.registry.loading import open_model_source
from calsvc.service import create_service
from calsvc.settings import Settings
from observability.telemetry import Telemetry
from tests.clock import Clock
from tests.http.test_schema import WORKOUT

WARM_UP = 100
REQUESTS = 200
NOBODY = Collector("http://127.0.0.1:9/v1/traces", {}, timeout=0.1)


@pytest.fixture(autouse=True)
def declared_events_only() -> None:
    """Not here, where its calls would be counted."""


def predict(number: int) -> tuple[str, bytes]:
    """A request for a prediction."""
    return "/predict", msgspec.json.encode(WORKOUT | {"id": number})


def feedback(number: int) -> tuple[str, bytes]:
    """The truth of a prediction."""
    return "/feedback", msgspec.json.encode({"id": number, "Calories": 77})


async def post(app: ASGIApp, path: str, body: bytes, traceparent: bytes) -> int:
    """One request, without a server around the application; return its status."""
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [(b"host", b"calsvc"), (b"content-type", b"application/json"), (b"traceparent", traceparent)]
    scope = {"type": "http", "method": "POST", "path": path, "scheme": "http", "headers": headers}
    await app(scope, receive, send)
    return status


async def serving(bundle: Path, play: Callable[[ASGIApp], Awaitable[Any]]) -> Any:
    """Play against an application that has its model."""
    lifecycle = Lifecycle()
    telemetry = Telemetry({"service.name": "test"}, NOBODY)
    service = create_service(Settings(model=bundle), telemetry, lifecycle, Clock())
    source = open_model_source(service)
    await source.start()
    try:
        return await play(create_app(service, source).first)
    finally:
        telemetry.shutdown()


def calls_per_request(bundle: Path, request: Callable[[int], tuple[str, bytes]], flags: bytes) -> float:
    """Count calls of Python and of C functions, a request."""
    traceparent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-" + flags
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    async def play(app: ASGIApp) -> float:
        for number in range(WARM_UP + REQUESTS):
            assert await post(app, *predict(number), traceparent) == 200
        for number in range(WARM_UP):
            assert await post(app, *request(number), traceparent) == 200
        sys.setprofile(count)
        try:
            for number in range(WARM_UP, WARM_UP + REQUESTS):
                await post(app, *request(number), traceparent)
        finally:
            sys.setprofile(None)
        return calls / REQUESTS

    return float(anyio.run(serving, bundle, play))


@pytest.mark.parametrize(
    ("request_of", "flags", "most"),
    [(predict, b"00", 95), (predict, b"01", 300), (feedback, b"00", 86), (feedback, b"01", 295)],
    ids=["predict", "predict, traced", "feedback", "feedback, traced"],
)
def test_a_request_makes_no_more_calls_than_it_did(
    bundle: Path, request_of: Callable[[int], tuple[str, bytes]], flags: bytes, most: int
):
    """With everything on: schema, model, store, metrics, and where it was drawn, span, exemplar and log line."""
    assert calls_per_request(bundle, request_of, flags) <= most

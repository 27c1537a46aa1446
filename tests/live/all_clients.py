"""`python -m tests.live.all_clients URL`: ask one server by every HTTP client of this project; JSON of what came of it.

URL may have a user and a password. The process begins as the commands do, with the variables that its caller has set.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from calsvc.feedback.link import Link
from calsvc.registry.mlflow_process import MlflowProcess
from calsvc.training.live import read_metrics
from calsvc.training.store import aliases, open_store
from observability.addresses import without_user
from observability.http_clients import share_variables
from observability.otel_environment import prepare, span_exporters
from observability.profiles import start_profiles
from streamsim.answers import Cause
from streamsim.client import open_client
from streamsim.rows import Record
from streamsim.service import fetch

RECORD: Final = Record("1", 1.0, b'{"id":1}')


def registry_of_serve(url: str) -> None:
    """Resolve an alias, and download what it points at."""

    async def ask() -> None:
        registry = MlflowProcess(url)
        try:
            version = await registry.resolve("calories", "champion")
            assert version is not None
            with tempfile.TemporaryDirectory() as folder:
                await registry.download(version, Path(folder))
        finally:
            await registry.aclose()

    anyio.run(ask)


def store_of_commands(url: str) -> None:
    """Open it, as train and promote do, and download a file."""
    store = open_store(url)
    assert aliases(store, "calories") == {}


def simulator(url: str) -> None:
    """Ask for one prediction."""

    async def ask() -> Cause:
        async with open_client(url, 10) as client:
            return (await client.predict(RECORD)).cause

    assert (cause := anyio.run(ask)) is Cause.OK, cause


def collector(url: str) -> None:
    """Export a span."""
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
    prepare(os.environ)
    (make,) = span_exporters(os.environ)
    span = TracerProvider(ALWAYS_ON).get_tracer("test").start_span("span")
    assert isinstance(span, ReadableSpan)
    assert make().export([span]) is SpanExportResult.SUCCESS


def pyroscope(url: str) -> None:
    """Send profiles until the end; the server knows whether they have arrived."""
    profiles = start_profiles(without_user(url), "test", {})
    until = time.monotonic() + 1
    while time.monotonic() < until:
        pass
    profiles.shutdown()


def shared_store(url: str) -> None:
    """Shake hands with what is no Redis."""

    async def ask() -> None:
        link = Link(url.replace("https://", "rediss://"), b"test", 60)
        try:
            await link.presence("look", in_touch=0, others=[])
        finally:
            await link.aclose()

    try:
        anyio.run(ask)
    except Exception as error:
        if "certificate" in str(error).lower():
            raise


CLIENTS: Final[tuple[Callable[[str], object], ...]] = (
    registry_of_serve,
    store_of_commands,
    simulator,
    collector,
    pyroscope,
    shared_store,
)


def main(url: str) -> None:
    """Ask, each client for itself."""
    share_variables(os.environ)
    clients: dict[str, Callable[[], object]] = {each.__name__: lambda each=each: each(url) for each in CLIENTS}
    clients["promote_on_live"] = lambda: read_metrics(url)
    clients["demo_and_stress"] = lambda: fetch(f"{url}/metrics")
    failed = {}
    for name, ask in clients.items():
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - that is what is asked
            failed[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(failed))


if __name__ == "__main__":
    main(sys.argv[1])

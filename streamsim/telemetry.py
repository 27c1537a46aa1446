"""Whether the simulator's own spans and profiles leave: only where who takes them is named, by the usual variables.

Nothing of OpenTelemetry is loaded elsewhere: `stream` has no room for what it does not use.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from observability.sampling import (
    HEADERS_EXPECTED,
    PROFILES_EXPECTED,
    Collector,
    http_url,
    otlp_headers,
    profiles_url,
    spans_url,
)
from streamsim.client import Calls
from streamsim.environ import parsed

TIMEOUT: Final = 2.0
"""Seconds for one batch, and again as long for all that is left at the end."""
_ADDRESS: Final = "http://... or https://..."


@contextmanager
def spans(environ: Mapping[str, str], url: str) -> Iterator[Calls | None]:
    """Send spans of the requests to the service at `url`, the last of them at the end; None where none are wanted.

    Raises:
        SettingError: naming the variable and what is accepted.
    """
    collector = collector_of(environ)
    if collector is None:
        yield None
        return
    from streamsim.tracing import open_spans  # noqa: PLC0415 - OpenTelemetry's SDK, for those who have a collector

    with open_spans(collector, url) as calls:
        yield calls


@contextmanager
def profiles(environ: Mapping[str, str]) -> Iterator[None]:
    """Sample this process's stacks where a Pyroscope server is named; raises as `spans` does."""
    address = parsed(environ, "PYROSCOPE_SERVER_ADDRESS", profiles_url, PROFILES_EXPECTED)
    if address is None:
        yield
        return
    from observability.profiles import start_profiles  # noqa: PLC0415 - for those who have a server

    sampled = start_profiles(address, "streamsim", {"service_version": version("calsvc")})
    try:
        yield
    finally:
        sampled.shutdown()


def collector_of(environ: Mapping[str, str]) -> Collector | None:
    """Return where spans go, None where none are to leave; raises as `spans` does."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    endpoint = parsed(environ, "OTEL_EXPORTER_OTLP_ENDPOINT", http_url, _ADDRESS) or ""
    traces = parsed(environ, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", http_url, f"{_ADDRESS}, with its path") or ""
    headers = parsed(environ, "OTEL_EXPORTER_OTLP_HEADERS", otlp_headers, HEADERS_EXPECTED) or ()
    address = spans_url(endpoint, traces)
    return Collector(address, dict(headers), TIMEOUT) if address else None

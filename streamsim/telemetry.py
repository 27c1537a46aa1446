"""Whether the simulator's own spans and profiles are exported: only where the usual variables say where to.

Nothing of OpenTelemetry's SDK is loaded elsewhere: `stream` has no room for what it does not use.
"""

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from observability import otel_environment
from observability.addresses import PROFILES_EXPECTED, profiles_url
from streamsim.client import Calls
from streamsim.environ import parsed
from streamsim.errors import SettingError

KNOWN: Final = ("OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT")
"""Where the simulator's /metrics are; see `scrapes`."""
FIXED: Final = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG")


@contextmanager
def spans(environ: MutableMapping[str, str]) -> Iterator[Calls | None]:
    """Export spans of requests, the last of them at the end; None where none are wanted.

    Raises:
        SettingError: naming the variable and what is accepted.
    """
    try:
        warnings = otel_environment.check(environ, KNOWN)
    except otel_environment.WrongVariable as wrong:
        raise SettingError(str(wrong)) from None
    if not otel_environment.span_exporters(environ):
        yield None
        return
    for key in FIXED:
        if environ.get(key, "").strip():
            warnings.append(f"{key} has no effect on the simulator: it traces one record in ten, by its id")
    for each in warnings:
        print(f"streamsim: {each}", file=sys.stderr)
    environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", otel_environment.DEFAULTS["OTEL_SEMCONV_STABILITY_OPT_IN"])
    from observability.telemetry import processors_from  # noqa: PLC0415 - OpenTelemetry's SDK, for those who use it
    from streamsim.tracing import open_spans  # noqa: PLC0415

    with open_spans(processors_from(environ)) as calls:
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

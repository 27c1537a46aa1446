"""Whether the simulator's own spans and profiles leave: only where who takes them is named, by the usual variables.

Nothing of OpenTelemetry is loaded otherwise: `stream` has no room for what it does not use.
"""

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from observability.addresses import PROFILES_EXPECTED, profiles_url
from observability.otel_environment import DEFAULTS, SIMULATOR, WrongVariable, prepare, span_exporters
from streamsim.calls import CallTracing, ContextOnly, Headers
from streamsim.environ import parsed
from streamsim.errors import SettingError

TIMEOUT: Final = 2.0
"""Seconds for one batch, unless OTEL_EXPORTER_OTLP_TIMEOUT says more, and for all that is left at the end."""
_DEFAULTS: Final = {**DEFAULTS, "OTEL_EXPORTER_OTLP_TIMEOUT": f"{TIMEOUT:g}"}


@contextmanager
def spans(environ: MutableMapping[str, str]) -> Iterator[CallTracing]:
    """Make and export spans of the requests where an exporter is named; fills in the defaults of OTEL_* variables.

    What has no effect is one line each on stderr. At the end it waits for the last spans, but not for long.

    Raises:
        SettingError: naming the variable and what is accepted.
    """
    try:
        warnings = prepare(environ, SIMULATOR, _DEFAULTS)
    except WrongVariable as wrong:
        raise SettingError(str(wrong)) from None
    for each in warnings:
        print(f"streamsim: {each}", file=sys.stderr)
    share = sampled_share(environ)
    if not (share and span_exporters(environ)):
        yield ContextOnly(share, _propagator(environ))
        return
    from streamsim.tracing import open_spans  # noqa: PLC0415 - OpenTelemetry's SDK, for those who have a collector

    with open_spans(environ, share, TIMEOUT) as tracing:
        yield tracing


def sampled_share(environ: Mapping[str, str]) -> float:
    """Return the share of the records that the sampler's variables ask for; a record has no parent."""
    sampler, ratio = (environ[key] for key in ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"))
    if sampler.lower().endswith("traceidratio"):
        return float(ratio)
    return 1.0 if sampler.lower().endswith("always_on") else 0.0


def _propagator(environ: Mapping[str, str]) -> Headers | None:
    if "OTEL_PROPAGATORS" not in environ:
        return None
    from streamsim.tracing import injected  # noqa: PLC0415

    return injected


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

"""Where Prometheus may look at a run, for as long as it lasts. `metrics` serves it, loaded only where it is wanted."""

import argparse
import os
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Protocol

from streamsim.environ import parsed
from streamsim.summary import Now

Mode = Literal["stream", "stress"]
HOST: Final = "127.0.0.1"
PORT: Final = 9464
"""OpenTelemetry's for metrics that Prometheus fetches."""


class Scrape(NamedTuple):
    """The address of `/metrics`, and what the run calls itself."""

    host: str
    port: int
    mode: Mode


class Source(Protocol):
    """Tells how a run stands."""

    def __call__(self) -> Now:
        """Freeze the state; must be cheap."""


def scrape_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Scrape | None:
    """Return where metrics are shown, by option, else by OpenTelemetry's variables; None for port 0.

    Raises:
        SettingError: naming the variable and what is accepted.
    """
    host = options.metrics_host or environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or HOST
    port = options.metrics_port
    if port is None:
        port = parsed(environ, "OTEL_EXPORTER_PROMETHEUS_PORT", _port, "a port up to 65535, or 0 for none")
    if port is None:
        port = PORT
    return Scrape(host, port, options.command) if port else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65_536):
        raise ValueError(text)
    return int(text)


def refusal(scrape: Scrape, error: OSError) -> str:
    """Say why there are no metrics, and what to do."""
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)  # negative: a name nobody knows
    where = f"{scrape.host}:{scrape.port}"
    return f"streamsim: no metrics on {where}: {reason}; --metrics-port takes another port, or 0 for none"

"""Where Prometheus looks at a run: a small server on the run's own event loop, for as long as the run lasts."""

import argparse
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from streamsim.errors import SettingError
from streamsim.metrics import Mode, Source, open_metrics
from streamsim.tally import Tally

HOST: Final = "127.0.0.1"
PORT: Final = 9464
"""OpenTelemetry's for metrics that Prometheus fetches."""


class Scrape(NamedTuple):
    """The address of `/metrics`, and what the run calls itself."""

    host: str
    port: int
    mode: Mode


def scrape_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Scrape | None:
    """Return where metrics are shown, by option, else by OpenTelemetry's variables; None for port 0.

    Raises:
        SettingError: naming the variable and what is accepted.
    """
    host = options.metrics_host or environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or HOST
    port = options.metrics_port
    if port is None:
        port = _port(environ.get("OTEL_EXPORTER_PROMETHEUS_PORT", "").strip())
    return Scrape(host, port, options.command) if port else None


def _port(text: str) -> int:
    if not text:
        return PORT
    if not (text.isascii() and text.isdigit() and int(text) < 65_536):
        raise SettingError(f"OTEL_EXPORTER_PROMETHEUS_PORT={text!r}: expected a port up to 65535, or 0 for none")
    return int(text)


@asynccontextmanager
async def scraped(scrape: Scrape | None, tally: Tally, source: Source) -> AsyncIterator[None]:
    """Show a run's metrics while it lasts. A port that cannot be had is told of, and the run goes on without."""
    if scrape is None:
        yield
        return
    registry, tally.buckets = open_metrics(scrape.mode, source)
    # At the end nobody is waited for: a scrape takes a millisecond, and the next one would come too late anyway.
    runner = web.AppRunner(_app(registry), access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, scrape.host, scrape.port).start()
        except OSError as error:
            tally.buckets = None
            print(_refusal(scrape, error), file=sys.stderr)
        yield
    finally:
        await runner.cleanup()


def _refusal(scrape: Scrape, error: OSError) -> str:
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)  # negative: a name nobody knows
    where = f"{scrape.host}:{scrape.port}"
    return f"streamsim: no metrics on {where}: {reason}; --metrics-port takes another port, or 0 for none"


def _app(registry: CollectorRegistry) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        encode, media_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": media_type})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app

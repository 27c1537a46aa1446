"""Which requests are looked at closely: decided when they arrive, before anything is built for them.

OpenTelemetry's own middleware builds a span object, a context and an attribute set for every request, and asks the
sampler afterwards. Here the draw comes first, made from what the sampler would look at: the caller's `traceparent`, or
chance. For nine requests of ten it ends there.
"""

import random
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypedDict
from urllib.parse import unquote, urlsplit

Headers = Iterable[tuple[bytes, bytes]]
TRACEPARENT: Final = re.compile(
    rb"[ \t]*(?!ff|00.{53}-)[0-9a-f]{2}"  # version 00 ends after the flags, a later one may go on
    rb"-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(-.*)?[ \t]*"
)
"""A caller's place in its trace, as W3C Trace Context writes it."""
SLOW: Final = 0.05
"""Seconds from which a request leaves a span when it has ended, although it was not drawn; so does one that fails."""
HEADERS_EXPECTED: Final = "NAME=VALUE,NAME=VALUE, in ASCII"
PROFILES_EXPECTED: Final = "http://HOST:PORT or https://..., without user, query or fragment"
_LOW_64_BITS: Final = 2**64 - 1
_ADDRESS: Final = re.compile(r"[^\s#]+")
_HEADER: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+=([!-~]([ -~]*[!-~])?)?", re.ASCII)
"""What HTTP lets a field be; of values, only what is printable and ASCII."""


class Collector(NamedTuple):
    """Where spans go. `timeout`: seconds for one batch, all repetitions included."""

    url: str
    headers: Mapping[str, str]
    timeout: float = 10.0


def http_url(text: str) -> str:
    """Return an address as it is, or raise ValueError, without it, where the HTTP client could not send to it."""
    import httpx2  # noqa: PLC0415 - for those who have a collector

    try:
        url = httpx2.URL(text)
        usable = url.scheme in {"http", "https"} and url.host and urlsplit(text).port != 0
    except (httpx2.InvalidURL, ValueError):
        usable = False
    if not usable or not _ADDRESS.fullmatch(text):
        raise ValueError("not an address over HTTP")
    return text


def profiles_url(text: str) -> str:
    """Return the address of a Pyroscope server as it is, or raise ValueError, without it."""
    try:
        parts = urlsplit(text)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"https?://[^\s@?#]+", text):
        raise ValueError("not the address of a Pyroscope server")
    return text


def otlp_headers(text: str) -> tuple[tuple[str, str], ...]:
    """Parse `NAME=VALUE,NAME=VALUE`, values percent-encoded, or raise ValueError, without them."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    headers = tuple((name.strip(), unquote(value.strip())) for name, _, value in pairs)
    if not all(equals for _, equals, _ in pairs) or not all(_HEADER.fullmatch("=".join(each)) for each in headers):
        raise ValueError("not NAME=VALUE,NAME=VALUE")
    return headers


Server = TypedDict("Server", {"server.address": str, "server.port": int})
"""Host and port, as spans and log lines name them."""


def server_of(url: str) -> Server:
    """Return whom an address belongs to."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def spans_url(endpoint: str, traces_endpoint: str) -> str:
    """Return where spans go: the address for them alone, else that for all signals; empty without either."""
    return traces_endpoint or (endpoint and f"{endpoint.rstrip('/')}/v1/traces")


class Sampling(NamedTuple):
    """Which requests are traced. `ratio`: share of those that no caller has decided about; 0: only those of callers.

    `parent_based`: the decision of a caller that sent a `traceparent` is followed, whatever the ratio.
    """

    parent_based: bool = True
    ratio: float = 0.1


def is_drawn(sampling: Sampling, headers: Headers) -> bool:
    """Decide about one request, as OpenTelemetry's TraceIdRatioBased and ParentBased samplers would."""
    for name, value in headers:
        if name == b"traceparent":
            sent = TRACEPARENT.fullmatch(value)
            if sent is None:
                break
            if sampling.parent_based:
                return sent["flags"][1] in b"13579bdf"  # the last hexadecimal digit holds the sampled bit
            return int(sent["trace"], 16) & _LOW_64_BITS < sampling.ratio * 2**64
    return random.random() < sampling.ratio  # noqa: S311 - which requests are looked at is no secret

"""Addresses as they may be shown: without what could be a password."""

import argparse
import base64
import re
from typing import Final, TypedDict
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit


def scheme_of(address: str) -> str:
    """Return what can be shown of an address that may hold a password: `http://...`, or `***` without a scheme."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address)
    return f"{scheme[0]}..." if scheme else "***"


def without_user(text: str) -> str:
    """Return a text with the URLs in it without user and password, which may hold any of `@` and `/`."""
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)\S*@", r"\1", text)


def without_credentials(url: str) -> tuple[str, str | None]:
    """Return an address without user and password, and them as a value of the header Authorization."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    credentials = base64.b64encode(unquote_to_bytes(user if ":" in user else f"{user}:")).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {credentials}"


_HOST: Final = re.compile(r"[\w.-]+|[\da-f:.]+(%[\w.-]+)?")
"""A name, or an address of IPv4 or IPv6."""
PROFILES_EXPECTED: Final = "http://HOST:PORT or https://..., without user, query or fragment"
Server = TypedDict("Server", {"server.address": str, "server.port": int})
"""Host and port, as spans and log lines name them."""


def server_of(url: str) -> Server:
    """Return the host and port of an address."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def parts_of(text: str, *schemes: str) -> SplitResult:
    """Return the parts of an address with one of these schemes, or raise ValueError, without the address.

    An `@` behind the host is refused: it may end a password that holds `/`, `?` or `#`, and a part of that password
    would count as the host, and be shown. In a path or a query it is written `%40`.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        host.encode("idna")
        usable = parts.scheme in schemes and parts.port != 0
    except ValueError:
        raise ValueError("not an address") from None
    if not usable or not _HOST.fullmatch(host) or re.search(r"[\s\\]|[/?#].*@", text[len(parts.scheme) + 3 :]):
        raise ValueError("not an address")
    return parts


def http_url(text: str) -> str:
    """Return an http or https address as it is, or raise ValueError, without it."""
    if parts_of(text, "http", "https").fragment or text.endswith("#"):
        raise ValueError("not an address over HTTP")
    return text


def service_url(text: str) -> str:
    """Return the address of a service below which its paths are, or raise ValueError, without it."""
    if "?" in http_url(text):
        raise ValueError("not the address of a service")
    return text


def service_argument(text: str) -> str:
    """Parse a service's address on a command line; of one that is refused only the scheme is shown."""
    try:
        return service_url(text)
    except ValueError:
        shown = scheme_of(text)  # where a password ends cannot be known
        raise argparse.ArgumentTypeError(f"{shown!r}: expected an address such as http://127.0.0.1:8000") from None


def profiles_url(text: str) -> str:
    """Return the address of a Pyroscope server as it is, or raise ValueError, without it."""
    if re.search(r"[@?]", http_url(text)):
        raise ValueError("not the address of a Pyroscope server")
    return text

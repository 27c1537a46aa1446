"""Addresses as they may be shown: without what could be a password."""

import re
from typing import Final, TypedDict
from urllib.parse import urlsplit


def scheme_of(address: str) -> str:
    """Return what can be shown of an address that may hold a password: `http://...`, or `***` without a scheme."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address)
    return f"{scheme[0]}..." if scheme else "***"


def without_user(text: str) -> str:
    """Return a text with the URLs in it without user and password, which may hold any of `@` and `/`."""
    return re.sub(r"(https?://)\S*@", r"\1", text)


PROFILES_EXPECTED: Final = "http://HOST:PORT or https://..., without user, query or fragment"
Server = TypedDict("Server", {"server.address": str, "server.port": int})
"""Host and port, as spans and log lines name them."""


def server_of(url: str) -> Server:
    """Return the host and port of an address."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def http_url(text: str) -> str:
    """Return an http or https address as it is, or raise ValueError, without it."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[^\s#]+", text):
        raise ValueError("not an address over HTTP")
    return text


def profiles_url(text: str) -> str:
    """Return the address of a Pyroscope server as it is, or raise ValueError, without it."""
    if re.search(r"[@?]", http_url(text)):
        raise ValueError("not the address of a Pyroscope server")
    return text

"""What the head of a request may be. The parser is strict about its form; here are bounds, and what it lets pass."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

import httptools
from starlette.types import Scope

from calsvc.errors import BodyTooLarge, HeadTooLarge, NotHttp, TargetTooLong

MAX_TARGET: Final = 8 * 1024
"""Bytes of a path with its query: what RFC 9112 recommends; the longest of ours has 24."""
MAX_HEAD: Final = 16 * 1024
"""Bytes of a whole head: a browser sends one, and W3C Trace Context may fill half of it."""
MAX_FIELDS: Final = 100
"""Header fields, each of which costs time to look at, however short it is."""
LARGEST_REQUEST: Final = 2**20
"""Bytes of a request with all its framing: six around each byte, where it comes in chunks of one, and trailers."""
VERSIONS: Final = frozenset({"1.1", "1.0"})
"""What is spoken; the parser also knows 0.9, whose answers have no head, and 2.0, which it does not speak."""
_TARGET: Final = f"the target is longer than {MAX_TARGET} bytes"
_HEAD: Final = f"the head is larger than {MAX_HEAD} bytes"
Headers = Sequence[tuple[bytes, bytes]]


def demand_bounds(target: bytes, headers: Headers) -> None:
    """Raise `TargetTooLong` or `HeadTooLarge` where a head is more than is read."""
    if len(target) > MAX_TARGET:
        raise TargetTooLong(_TARGET)
    if len(headers) > MAX_FIELDS:
        raise HeadTooLarge(f"the head has more than {MAX_FIELDS} fields")
    if len(target) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD:
        raise HeadTooLarge(_HEAD)


def demand_end(fed: int, target: bytes | None) -> None:
    """Raise where at least `fed` bytes of a request are here and it is not whole. `target`: while it is in its head."""
    if target is not None and len(target) > MAX_TARGET:
        raise TargetTooLong(_TARGET)
    if target is not None and fed > MAX_HEAD:
        raise HeadTooLarge(_HEAD)
    if fed > LARGEST_REQUEST:
        raise BodyTooLarge(f"the request is larger than {LARGEST_REQUEST} bytes")


def demand_version(version: str, hosts: int) -> None:
    """Raise `NotHttp` for another version of HTTP, or where the client does not say once whom it wants to reach."""
    if version not in VERSIONS:
        raise NotHttp(f"HTTP/{version} is not spoken here: use HTTP/1.1")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise NotHttp("the field Host is missing" if not hosts else "there is more than one field Host")


def demand_no_body(headers: Headers) -> None:
    """Raise `NotHttp` where a request for another protocol has a body: the parser would take that for what follows."""
    if any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers):
        raise NotHttp("a request for another protocol cannot have a body")


def add_target(scope: Scope, target: bytes) -> None:
    """Write path and query into a scope, or raise `NotHttp` where the target has no path."""
    try:
        parsed = httptools.parse_url(target)
        raw_path = parsed.path or b"/"  # http://host is http://host/
        path = raw_path.decode("ascii")
    except (httptools.HttpParserError, UnicodeDecodeError):
        raise NotHttp("the target is no path") from None
    scope["path"] = unquote(path) if "%" in path else path
    scope["raw_path"] = raw_path
    scope["query_string"] = parsed.query or b""

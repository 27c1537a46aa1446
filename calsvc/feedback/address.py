"""Addresses of a store."""

import re

from observability.addresses import parts_of


def check_store(address: str) -> None:
    """Raise ValueError, without the text, unless it names memory, a SQLite file, Redis or Valkey."""
    if address == "memory://" or re.fullmatch("sqlite:///.+", address):
        return
    url = parts_of(address, "redis", "rediss")
    if not re.fullmatch(r"(/\d*)?", url.path) or url.fragment:
        raise ValueError("not the address of a store")
    if url.query:
        _check_options(address)


def _check_options(address: str) -> None:
    """Raise ValueError, without the text, unless redis-py knows the options in the address's query."""
    from redis.asyncio import Redis  # noqa: PLC0415 - only where there are any

    try:
        Redis.from_url(address).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        raise ValueError("not options of a connection") from None

"""Addresses of a store."""

import re
from urllib.parse import urlsplit


def check_store(address: str) -> None:
    """Raise ValueError, without the text, unless it names memory, a SQLite file, Redis or Valkey."""
    if address == "memory://" or re.fullmatch("sqlite:///.+", address):
        return
    try:
        url = urlsplit(address)
        usable = url.scheme in {"redis", "rediss"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"(/\d*)?", url.path):
        raise ValueError("not the address of a store")

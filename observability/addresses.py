"""Addresses as they may be shown: without what could be a password."""

import re


def scheme_of(address: str) -> str:
    """Return what can be shown of an address that may hold a password: `http://...`, or `***` without a scheme."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address)
    return f"{scheme[0]}..." if scheme else "***"


def without_user(text: str) -> str:
    """Return a text with the URLs in it without user and password, which may hold any of `@` and `/`."""
    return re.sub(r"(https?://)\S*@", r"\1", text)

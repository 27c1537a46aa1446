"""The token that the calls ask for, where one is set: what it may be, and whether a request carries it."""

import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from calsvc.errors import Unauthorized

EXPECTED: Final = "printable ASCII without blanks"
_TOKEN: Final = re.compile(r"[!-~]+")
_SCHEME: Final = b"bearer "
LONGEST: Final = 4096
"""Characters of a file that are read: a token is one line, and a wrong file may be large."""


def token(text: str) -> str:
    """Return a token as it is, or raise ValueError where no header could carry it."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(text)
    return text


def token_in(path: str) -> str:
    """Return the first line of a file, or raise ValueError where that is no token."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return token(file.readline(LONGEST).rstrip("\r\n"))
    except OSError:
        raise ValueError(path) from None


def demand_token(headers: Iterable[tuple[bytes, bytes]], expected: bytes) -> None:
    """Raise `Unauthorized` unless a request carries the token. How long it takes does not tell how much was right."""
    sent = [value for name, value in headers if name == b"authorization"]
    given = sent[0] if len(sent) == 1 and sent[0][: len(_SCHEME)].lower() == _SCHEME else b""
    if not hmac.compare_digest(given[len(_SCHEME) :].strip(b" "), expected):
        raise Unauthorized("the header Authorization: Bearer, with the right token, is missing")

"""The token that the calls ask for, where one is set."""

import re
from pathlib import Path
from typing import Final

from calsvc.http.errors import SettingsError

EXPECTED: Final = "printable ASCII without blanks"
FILE_EXPECTED: Final = f"a file whose first line is {EXPECTED}"
_TOKEN: Final = re.compile(r"[!-~]+")
LONGEST: Final = 4096
"""Characters of a file that are read: a token is one line, and a wrong file may be large."""


def check_token(text: str) -> None:
    """Raise ValueError where no header could carry the token."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("not a token")


def token_in(path: str) -> str:
    """Return the first line of the file that CALSVC_TOKEN_FILE names; without a file, nothing.

    Raises:
        SettingsError: the file cannot be read, or its first line is no token.
    """
    if not path:
        return ""
    try:
        with Path(path).open(encoding="utf-8") as file:
            token = file.readline(LONGEST).rstrip("\r\n")
        check_token(token)
    except (OSError, ValueError):
        raise SettingsError("CALSVC_TOKEN_FILE", path, FILE_EXPECTED) from None
    return token

"""Environment variables of the simulator."""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import urlsplit

from observability.addresses import scheme_of
from observability.paths import given_path
from streamsim.errors import SettingError

Value = TypeVar("Value")
TOKEN: Final = "CALSVC_TOKEN"  # noqa: S105  names, not what they hold
TOKEN_FILE: Final = "CALSVC_TOKEN_FILE"  # noqa: S105
LONGEST_TOKEN: Final = 4096
_EXPECTED: Final = "printable ASCII without spaces"


def parsed(environ: Mapping[str, str], key: str, parse: Callable[[str], Value], expected: str) -> Value | None:
    """Return what a variable holds, None where it is unset or empty.

    Args:
        environ: the environment.
        key: its name.
        parse: reads its text, or raises ValueError.
        expected: what is accepted, for people.

    Raises:
        SettingError: naming the variable and what is accepted.
    """
    text = environ.get(key, "").strip()
    try:
        return parse(text) if text else None
    except ValueError:
        raise SettingError(f"{key}={_shown(key, text)}: expected {expected}") from None


def _shown(key: str, text: str) -> str:
    if key.endswith("TOKEN"):
        return "***"
    return repr(scheme_of(text) if key.endswith("ADDRESS") or "://" in text else text)


def token_of(environ: Mapping[str, str], url: str) -> str | None:
    """Return what the service at `url` asks its callers for: from the environment, else from the file named there.

    Raises:
        SettingError: naming the variable, never what it holds.
    """
    token = parsed(environ, TOKEN, _token, _EXPECTED)
    if token is None:
        token = parsed(environ, TOKEN_FILE, _first_line, f"a file whose first line is the token, {_EXPECTED}")
    if token is not None and urlsplit(url).username is not None:
        raise SettingError(f"{TOKEN}: --url names a user, and only one of the two can be sent; remove one")
    return token


def _first_line(path: str) -> str:
    try:
        with given_path(path).open(encoding="utf-8") as file:
            return _token(file.readline(LONGEST_TOKEN).strip())
    except OSError:
        raise ValueError(path) from None


def _token(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError  # without the text
    return text

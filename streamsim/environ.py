"""Environment variables of the simulator."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from streamsim.errors import SettingError

Value = TypeVar("Value")


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
        shown = "***" if key.endswith("HEADERS") else repr(text)  # headers hold secrets
        raise SettingError(f"{key}={shown}: expected {expected}") from None

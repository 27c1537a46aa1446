"""What the text of a setting may be, where that takes more than a type and a range.

Each function raises ValueError, without the text, where it does not accept one.
"""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from observability.addresses import http_url

HOST: Final = "127.0.0.1"
PORT: Final = 8000


def check_store(address: str) -> None:
    """Check where predictions wait: in memory, in a SQLite file, or in Redis or Valkey."""
    if address == "memory://" or re.fullmatch("sqlite:///.+", address):
        return
    try:
        url = urlsplit(address)
        usable = url.scheme in {"redis", "rediss"} and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"(/\d*)?", url.path):
        raise ValueError("not the address of a store")


def check_tracking(address: str) -> None:
    """Check the address of an MLflow server or of a SQLite file."""
    if address.startswith(("http://", "https://")):
        http_url(address)
    elif not re.fullmatch("sqlite:///.+", address):
        raise ValueError("not the address of a tracking server")


class RegisteredModel(NamedTuple):
    """A model in the MLflow registry, by the alias that points at the version to serve."""

    name: str
    alias: str

    def __str__(self) -> str:
        """Return the URI, `models:/calories@champion` for example."""
        return f"models:/{self.name}@{self.alias}"


_REGISTERED: Final = re.compile(r"models:/(?P<name>[^/@:]+)@(?P<alias>[A-Za-z][\w-]*)")


def model_address(given: Any) -> Path | RegisteredModel:
    """Parse what is served: a bundle directory, or a model in the registry."""
    if not isinstance(given, str) or not given.startswith("models:"):
        return given if isinstance(given, RegisteredModel) else Path(given)
    if match := _REGISTERED.fullmatch(given):
        return RegisteredModel(**match.groupdict())
    raise ValueError("not a model of the registry")


def true_or_false(given: Any) -> Any:
    """Parse true or false, in letters of either size; pydantic would take yes, on and 1, too."""
    return {"true": True, "false": False}.get(str(given).lower())

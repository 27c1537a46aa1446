"""Addresses of the registry and of a model in it. What cannot be one raises ValueError, without the text."""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from observability.addresses import http_url


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


# As MLflow has it: a name without / and :, in which the last @ begins the alias.
_REGISTERED: Final = re.compile(r"models:/(?P<name>[^/:]+)@(?P<alias>[\w-]{1,255})")


def model_address(given: Any) -> Path | RegisteredModel:
    """Parse what is served: a bundle directory, or a model in the registry."""
    if not isinstance(given, str) or not given.startswith("models:"):
        return given if isinstance(given, RegisteredModel) else Path(given)
    if match := _REGISTERED.fullmatch(given):
        return RegisteredModel(**match.groupdict())
    raise ValueError("not a model of the registry")

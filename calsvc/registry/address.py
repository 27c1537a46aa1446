"""Addresses of the registry and of a model in it. What cannot be one raises ValueError, without the text."""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from observability.addresses import http_url, without_user


def check_tracking(address: str) -> None:
    """Check the address of an MLflow server or of a SQLite file."""
    if not re.fullmatch("sqlite:///.+", address):
        http_url(address)


def without_password(uri: str) -> tuple[str, dict[str, str]]:
    """Return a tracking URI without user and password, and the variables by which MLflow's client reads these.

    Within a URL requests would encode them as Latin-1, and MLflow's own texts would have them.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not (parts.username and parts.password):  # it sends both or none
        return uri, {}
    user, password = unquote(parts.username), unquote(parts.password)
    return without_user(uri), {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}


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
    if not isinstance(given, str) or not (given.startswith("models:") or "://" in given):
        return given if isinstance(given, RegisteredModel) else Path(given)
    if match := _REGISTERED.fullmatch(given):
        return RegisteredModel(**match.groupdict())
    raise ValueError("not a model of the registry")

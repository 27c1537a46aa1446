"""What the text of a setting may be: parsers, and the values that they return.

A parser raises ValueError where it does not accept a text; what it would accept is worded by the setting itself.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

Parser = Callable[[str], Any]


class Rejected(ValueError):
    """A parser's way to say that a text is not acceptable; `expected` is worded by the setting itself."""


def number(kind: type[int] | type[float], low: float, high: float) -> Parser:
    """Return a parser of numbers from `low` to `high`."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:  # also refuses nan, which compares as False
            raise Rejected
        return value

    return parse


class StoreAddress(NamedTuple):
    """Where predictions wait: in memory, in a SQLite file (`where` is its path), or in Redis or Valkey (its URL)."""

    kind: Literal["memory", "sqlite", "redis"]
    where: str = ""

    def __str__(self) -> str:
        """Return the address as it is set, without a password."""
        return {"memory": "memory://", "sqlite": f"sqlite:///{self.where}"}.get(self.kind) or masked(self.where)

    def __repr__(self) -> str:
        """Return the same: a password must not be in what settings look like."""
        return str(self)


IN_MEMORY: Final = StoreAddress("memory")


def store_address(text: str) -> StoreAddress:
    """Parse where predictions wait."""
    if text == str(IN_MEMORY):
        return IN_MEMORY
    if path := text.removeprefix("sqlite:///") if text.startswith("sqlite:///") else "":
        return StoreAddress("sqlite", path)
    url = urlsplit(text)
    if url.scheme in {"redis", "rediss"} and url.hostname and url.port != 0 and re.fullmatch(r"(/\d*)?", url.path):
        return StoreAddress("redis", text)
    raise Rejected


def masked(url: str) -> str:
    """Return an address without user and password."""
    return re.sub(r"//[^/@]*@", "//***@", url)


class RegisteredModel(NamedTuple):
    """A model in the MLflow registry, by the alias that points at the version to serve."""

    name: str
    alias: str

    def __str__(self) -> str:
        """Return the URI, `models:/calories@champion` for example."""
        return f"models:/{self.name}@{self.alias}"


_REGISTERED: Final = re.compile(r"models:/(?P<name>[^/@:]+)@(?P<alias>[A-Za-z][\w-]*)")


def model_address(text: str) -> Path | RegisteredModel:
    """Parse what is served: a bundle directory, or a model in the registry."""
    if not text.startswith("models:"):
        return Path(text)
    if match := _REGISTERED.fullmatch(text):
        return RegisteredModel(**match.groupdict())
    raise Rejected


def tracking_uri(text: str) -> str:
    """Let the address of a server or a SQLite file pass."""
    if not re.fullmatch(r"(https?://[^\s/]+.*|sqlite:///.+)", text):
        raise Rejected
    return text


_SAMPLERS: Final = ("always_on", "always_off", "traceidratio")


def sampler(text: str) -> str:
    """Let the name of one of OpenTelemetry's samplers pass."""
    if text.removeprefix("parentbased_") not in _SAMPLERS:
        raise Rejected
    return text


def flag(text: str) -> bool:
    """Parse true or false, in letters of either size."""
    if text.lower() not in {"true", "false"}:
        raise Rejected
    return text.lower() == "true"


def host(text: str) -> str:
    """Let a host name or an address pass."""
    if not text or any(character.isspace() for character in text):
        raise Rejected
    return text

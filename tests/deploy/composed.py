"""The compose files as data, put together as compose does it as far as these tests need it. No engine is asked."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.compose.stack import read_defaults
from tests.service_process import ROOT

FOLDER = ROOT / "deploy" / "compose"
SETTINGS = ROOT / "deploy" / "settings"
FILES = [FOLDER / "compose.yaml", *sorted(FOLDER.glob("compose.*.yaml"))]
ENV = FOLDER / ".env"


class _Loader(yaml.SafeLoader):
    """Knows compose's own tag `!reset`: what it is on counts as not there."""


_Loader.add_constructor("!reset", lambda _loader, _node: None)


def load(file: Path) -> Any:
    """A file's content."""
    return yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader


def variables(file: Path) -> dict[str, str]:
    """The lines of an env file."""
    return read_defaults(file.read_text(encoding="utf-8"))


def named_in(text: str) -> set[str]:
    """The variables that compose would fill in."""
    return set(re.findall(r"(?<!\$)\$\{(\w+)\}", text))


def filled(value: Any, told: Mapping[str, str]) -> Any:
    """A value with its variables filled in."""
    if isinstance(value, str):
        return re.sub(r"(?<!\$)\$\{(\w+)\}", lambda found: told[found[1]], value)
    if isinstance(value, dict):
        return {key: filled(each, told) for key, each in value.items()}
    return [filled(each, told) for each in value] if isinstance(value, list) else value


def services() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every service that a layer brings along: file, name, and what it is with what it takes from common.yaml."""
    contained = load(FOLDER / "common.yaml")["services"]["contained"]
    for file in FILES:
        for name, service in load(file)["services"].items():
            if "image" in service:
                own = {key: value for key, value in service.items() if key != "extends"}
                taken = contained if service.get("extends") == {"file": "common.yaml", "service": "contained"} else {}
                both = {"environment": {**taken.get("environment", {}), **own.get("environment", {})}}
                yield file.name, name, {**taken, **own, **both}


def environments(name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What each layer tells a service in its environment: file, and the variables as they reach the container."""
    for file in FILES:
        service = load(file)["services"].get(name, {})
        told: dict[str, str] = {}
        for each in service.get("env_file", []):
            told |= variables(FOLDER / each)
        told |= {key: str(value) for key, value in service.get("environment", {}).items()}
        yield file.name, filled(told, variables(ENV))

"""For tests: what was told, and what of it nobody has declared."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from observability.events import Told, told_by
from observability.signals import EVENTS

OF_ANY_LINE = frozenset({"trace_id", "span_id"})


class Listener(logging.Handler):
    """Takes down the events of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Told] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take down one."""
        self.told.append(told_by(record))

    def complaints(self) -> list[str]:
        """Say what was told otherwise than declared."""
        return [each for told in self.told for each in complaints(told.event.name, told.attributes)]


@contextmanager
def listening() -> Iterator[Listener]:
    """Listen to the events that this process tells, whatever becomes of its log lines."""
    listener = Listener()
    owners = {event.owner for event in EVENTS} - {"libraries"}
    for owner in owners:
        logging.getLogger(owner).addHandler(listener)
    try:
        yield listener
    finally:
        for owner in owners:
            logging.getLogger(owner).removeHandler(listener)


def complaints(name: str, attributes: Mapping[str, Any]) -> list[str]:
    """Return what is wrong about a line, by the declaration of its event; nothing where nothing is."""
    declared = next((event.attributes for event in EVENTS if event.name == name), None)
    if declared is None:
        return [f"{name} is no event of observability/signals.py"]
    undeclared = attributes.keys() - {each.removeprefix("?") for each in declared} - OF_ANY_LINE
    missing = {each for each in declared if not each.startswith("?")} - attributes.keys()
    return [f"{name} does not declare {each}" for each in sorted(undeclared)] + [
        f"{name} lacks {each}" for each in sorted(missing)
    ]

"""Log lines of declared events: `tell` writes one."""

import logging
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from observability.signals import LIBRARY_LINE, SERVER_LINE, Event

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_IN_BRACES: Final = re.compile(r"\{([^}]*)\}")
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Told(NamedTuple):
    """The event of a log line, and the attributes of this one line."""

    event: Event
    attributes: Mapping[str, Any]


def tell(event: Event, attributes: Mapping[str, Any] = NOTHING, error: BaseException | None = None) -> None:
    """Log `event`, with the stack of `error` where there is one.

    Args:
        event: one of `signals`.
        attributes: those that it declares. Never what a record held, never a secret.
        error: what went wrong.
    """
    logging.getLogger(event.owner).handle(record_of(Told(event, attributes), time.time(), error))


def record_of(told: Told, created: float, error: BaseException | None = None) -> logging.LogRecord:
    """Return the log record of an event; `created`: seconds since the epoch."""
    event, attributes = told
    return logging.makeLogRecord(
        {
            "name": event.owner,
            "levelno": _LEVELS[event.level],
            "levelname": event.level.upper(),
            "created": created,
            "msg": _IN_BRACES.sub(lambda name: str(attributes[name[1]]), event.message),
            "exc_info": None if error is None else (type(error), error, error.__traceback__),
            "told": told,
        }
    )


def told_by(record: logging.LogRecord) -> Told:
    """Return event and attributes of a record; those of uvicorn and of other libraries have an event of their own."""
    told: Told | None = getattr(record, "told", None)
    if told is not None:
        return told
    return Told(SERVER_LINE if record.name.partition(".")[0] == "uvicorn" else LIBRARY_LINE, {"logger": record.name})


@lru_cache(maxsize=64)
def in_message(event: Event) -> frozenset[str]:
    """Return the attributes that the event's message shows."""
    return frozenset(_IN_BRACES.findall(event.message))

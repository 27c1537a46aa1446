"""Log lines of declared events: `tell` is how the project writes one."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from observability.signals import LIBRARY_LINE, SERVER_LINE, Event

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_TOLD: Final = "calsvc_told"
_BLANK: Final = MappingProxyType(logging.makeLogRecord({}).__dict__)
"""What every record has. Its maker looks for process, thread and time anew, which costs more than the line itself."""
_IN_BRACES: Final = re.compile(r"\{([^}]*)\}")
_LEVELS: Final = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Told(NamedTuple):
    """What a line tells: its event, and the attributes of this one line."""

    event: Event
    attributes: Mapping[str, Any]


def tell(event: Event, attributes: Mapping[str, Any] = NOTHING, error: BaseException | None = None) -> None:
    """Write a line about `event`, with the stack of `error` where there is one.

    Args:
        event: one of `signals`.
        attributes: those that it declares. Never what a record held, never a secret.
        error: what went wrong.
    """
    logging.getLogger(event.owner).handle(record_of(Told(event, attributes), time.time(), error))


def record_of(told: Told, created: float, error: BaseException | None = None) -> logging.LogRecord:
    """Return the line as the standard library hands it to who writes lines; `created`: seconds since the epoch."""
    event, attributes = told
    record = logging.LogRecord.__new__(logging.LogRecord)
    facts = record.__dict__
    facts.update(_BLANK)
    facts |= {
        "name": event.owner,
        "levelno": _LEVELS[event.level],
        "levelname": event.level.upper(),
        "created": created,
        "msg": _message(event.message)(attributes),
        _TOLD: told,
    }
    if error is not None:
        facts["exc_info"] = (type(error), error, error.__traceback__)
    return record


def told_by(record: logging.LogRecord) -> Told:
    """Return what a record tells; the lines of others, the HTTP server and libraries, have an event of their own."""
    told: Told | None = getattr(record, _TOLD, None)
    if told is None:
        ours = SERVER_LINE if record.name.partition(".")[0] == "uvicorn" else LIBRARY_LINE
        return Told(ours, {"logger": record.name})
    return told


@lru_cache(maxsize=64)
def in_message(event: Event) -> frozenset[str]:
    """Return the attributes that the event's message shows already."""
    return frozenset(_IN_BRACES.findall(event.message))


@lru_cache(maxsize=64)
def _message(template: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what fills in the braces of a message."""
    names = _IN_BRACES.findall(template)
    if not names:
        return lambda _: template
    formatted, values = _IN_BRACES.sub("%s", template.replace("%", "%%")), itemgetter(*names)
    return lambda attributes: formatted % values(attributes)

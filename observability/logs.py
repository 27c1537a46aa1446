"""How log lines are written: one JSON object a line for machines, plain and coloured text on a terminal.

Every line names an event of `signals`. None has a payload: stacks of failed requests come without the error's own text,
which may quote a record.
"""

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import IO, Any, Final

import msgspec

from observability.events import NOTHING, in_message, tell, told_by
from observability.outlet import Outlet, outlet_of
from observability.signals import LINES_LOST, REQUEST_FAILED, SERVER_LINE, Event

_COLOURS: Final = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31;1"}
HELD_LINES: Final = 500
"""Lines that are written at once at most."""
MAX_LINE: Final = 8192
"""Bytes of a JSON line, characters of one on a terminal, at most."""
IN_LINES: Final = ("service.name", "service.version", "service.instance.id")
"""What of the resource stands in each JSON line."""
_CLIPPED: Final = (4096, 1024, 256, 64)
"""Characters that a text keeps in a line that would be too long: the first of these with which it is not."""
OF_REQUESTS: Final = (REQUEST_FAILED, SERVER_LINE)
"""Events whose errors may say what a record held."""
_CAUSES: Final = 5
"""Errors behind errors whose stacks are told."""


def configure_logs(
    stream: IO[str] = sys.stdout,
    resource: Mapping[str, str] = NOTHING,
    ids: Callable[[], Mapping[str, str]] = dict,
    *,
    readable: bool | None = None,
) -> None:
    """Send every log line of this process, and Python's warnings, to `stream`.

    Args:
        stream: usually stdout.
        resource: what this process is.
        ids: trace_id and span_id of the span that is current where it is called, where there is one.
        readable: for a person instead of a machine; if not said, where `stream` is a terminal.
    """
    for_a_person = stream.isatty() if readable is None else readable
    handler = HeldLines(outlet_of(stream), 1 if for_a_person else HELD_LINES)
    handler.setFormatter(Readable() if for_a_person else JsonLines(resource, ids))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    # Facts that no line shows, and that logging would gather for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for talkative in ("httpx2", "httpcore2"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def flush_logs() -> None:
    """Write what is held, and say what was lost. Somebody has to do it now and then."""
    for handler in logging.getLogger().handlers:
        handler.flush()
        if isinstance(handler, HeldLines) and (lost := handler.take_lost()):
            tell(LINES_LOST, {"lost": lost})


class HeldLines(logging.Handler):
    """Writes lines in bundles: at once what is a warning or worse, and all that came before it."""

    def __init__(self, stream: Outlet | IO[str], most: int = HELD_LINES) -> None:
        super().__init__()
        self._stream = stream
        self._most = most
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Hold or write one line."""
        try:
            self._lines.append(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - logging's own rule: a line that cannot be written stops nobody
            self.handleError(record)
        if record.levelno >= logging.WARNING or len(self._lines) >= self._most:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                with suppress(OSError, ValueError):  # the reader has gone, the disk is full: no reason to stop serving
                    self._stream.write("".join(lines))
                    self._stream.flush()

    def take_lost(self) -> int:
        """Return how many lines were lost since this was asked last."""
        return self._stream.take_lost() if isinstance(self._stream, Outlet) else 0

    def close(self) -> None:
        """Write what is held, and wait a little until it has got out."""
        self.flush()
        if isinstance(self._stream, Outlet):
            self._stream.close()
        super().close()


class JsonLines(logging.Formatter):
    """One JSON object a record, with the ids of the current span where there is one; see `configure_logs`."""

    def __init__(self, resource: Mapping[str, str] = NOTHING, ids: Callable[[], Mapping[str, str]] = dict) -> None:
        super().__init__()
        self._process = {name: resource[name] for name in IN_LINES if name in resource}
        self._ids = ids

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        event, attributes = told_by(record)
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "event": event.name,
            "message": record.getMessage().strip(),
            **self._process,
            **self._ids(),
            **attributes,
        }
        if record.exc_info and record.exc_info[1]:
            line["exception.type"] = type(record.exc_info[1]).__qualname__
            line["exception.stacktrace"] = stack_of(record.exc_info[1], event)
        encoded = _encoded(line)
        for most in _CLIPPED:
            if len(encoded) < MAX_LINE:
                break
            encoded = _encoded({name: _shortened(value, most) for name, value in line.items()})
        return encoded.decode()


class Readable(logging.Formatter):
    """Time, message and what it does not say yet, warnings and errors in colour.

    What is not printable is escaped: nobody who sends a request can move the cursor, or make up a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; a stack follows on indented lines of its own."""
        event, attributes = told_by(record)
        said = in_message(event)
        fields = [f"{name}={value}" for name, value in attributes.items() if name not in said]
        lines = [" ".join([self.formatTime(record, "%H:%M:%S"), record.getMessage().strip(), *fields])]
        if record.exc_info and record.exc_info[1]:
            lines += [f"  {line}" for line in stack_of(record.exc_info[1], event).split("\n")]
        text = clipped("\n".join(map(printable, lines)), MAX_LINE)
        colour = _COLOURS.get(record.levelno)
        return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def stack_of(error: BaseException, event: Event) -> str:
    """Return the stack of an error and of those behind it; of a failed request without what the errors say."""
    if event not in OF_REQUESTS:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    return "\n\n".join(reversed([_frames(each) for each in _chain(error)]))


def _frames(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{type(error).__qualname__}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_CAUSES):
        if error is not None:
            yield error
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def printable(text: str) -> str:
    r"""Return `text` with everything that is not printable written as Python writes it: \n, \x1b, \u202e."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def clipped(text: str, most: int) -> str:
    """Return at most so many characters of a text, and a note: its beginning, and more of its end."""
    if len(text) <= most:
        return text
    head = most // 4
    return f"{text[:head]} ... {len(text) - most} characters left out ... {text[head - most :]}"


def _shortened(value: Any, most: int) -> Any:
    if value is None or isinstance(value, int | float | datetime):
        return value
    return clipped(_text(value), most)


def _encoded(line: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(line)
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode({_text(name): _encodable(value) for name, value in line.items()})


def _encodable(value: Any) -> Any:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        return _text(value)
    return value


def _text(value: Any) -> str:
    return str(value).encode(errors="backslashreplace").decode()

"""Log lines: JSON for machines, one object a line; plain and coloured where a person looks at a terminal."""

import logging
import sys
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import IO, Any, Final

import msgspec

from observability.tracing import current_ids

_FIELDS: Final = "calsvc_fields"
_COLOURS: Final = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31;1"}
HELD_LINES: Final = 500
"""Lines that are written at once at most."""


def fields_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `fields` in the form that a logging call takes as `extra`; they become keys of the JSON line."""
    return {_FIELDS: fields}


def configure_logs(stream: IO[str] = sys.stdout) -> None:
    """Send every log line of this process to `stream`, for a terminal in its own form."""
    handler: logging.Handler
    if stream.isatty():
        handler = logging.StreamHandler(stream)
        handler.setFormatter(Readable())
    else:
        handler = HeldLines(stream)
        handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # Facts that no line shows, and that logging would gather for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for talkative in ("httpx2", "httpcore2"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def flush_logs() -> None:
    """Write what is held. Somebody has to do it now and then."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class HeldLines(logging.Handler):
    """Writes lines in bundles: at once what is a warning or worse, and all that came before it."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Hold or write one line."""
        try:
            self._lines.append(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - logging's own rule: a line that cannot be written stops nobody
            self.handleError(record)
        if record.levelno >= logging.WARNING or len(self._lines) >= HELD_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                with suppress(OSError, ValueError):  # the reader has gone, the disk is full: no reason to stop serving
                    self._stream.write("".join(lines))
                    self._stream.flush()


class JsonLines(logging.Formatter):
    """One JSON object a record, with the ids of the current span where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **current_ids(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line).decode()
        except (TypeError, ValueError, RecursionError):
            return msgspec.json.encode({_text(name): _encodable(value) for name, value in line.items()}).decode()


def _encodable(value: Any) -> Any:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        return _text(value)
    return value


def _text(value: Any) -> str:
    return str(value).encode(errors="backslashreplace").decode()


class Readable(logging.Formatter):
    """Time, message and fields, warnings and errors in colour."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the first line."""
        fields = getattr(record, _FIELDS, {})
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in fields.items())])

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; a traceback follows on lines of its own."""
        text = super().format(record)
        colour = _COLOURS.get(record.levelno)
        return f"\x1b[{colour}m{text}\x1b[0m" if colour else text

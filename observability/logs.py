"""Log lines on stdout: JSON for machines, plain and coloured text on a terminal.

A line is formatted where it is logged, and written by a thread of its own, so that a reader that is slow or gone blocks
nothing. Every line names an event of `signals`. Stacks of failed requests come without the error's own text, which may
quote a record.
"""

import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import IO, Any, Final

import msgspec
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from observability.events import NOTHING, Told, in_message, record_of, told_by
from observability.signals import LINES_LOST, REQUEST_FAILED, SERVER_LINE, Event

QUEUED_LINES: Final = 2000
"""Lines that wait to be written at most. Further ones are dropped, and counted."""
PAUSE: Final = 0.05
"""Seconds between two writes, in which lines gather: to wake the thread costs more than to format a line."""
FLUSH_TIMEOUT: Final = 2.0
"""Seconds that the queued lines have to be written at the end of the process."""
MAX_LINE: Final = 8192
"""Bytes of a JSON line, characters of one on a terminal, at most."""
IN_LINES: Final = ("service.name", "service.version", "service.instance.id")
"""Resource attributes that stand in each JSON line."""
OF_REQUESTS: Final = (REQUEST_FAILED, SERVER_LINE)
"""Events whose errors may quote a record."""
_CLIPPED: Final = (MAX_LINE, 4096, 1024, 256, 64)
"""Characters that a text keeps: the first of these with which its line is short enough."""
_CAUSES: Final = 5
"""Errors behind errors of which the stack is logged."""
_COLOURS: Final = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31;1"}


def configure_logs(
    stream: IO[str] | None, resource: Mapping[str, str] = NOTHING, *, readable: bool | None = None
) -> None:
    """Send every log line of this process, and Python's warnings, to the file below `stream`.

    Args:
        stream: usually stdout; None, as Python has it where stdout is closed: nowhere.
        resource: OpenTelemetry's resource attributes of this process.
        readable: text for a person instead of JSON; if not said, where `stream` is a terminal.
    """
    handler: logging.Handler = logging.NullHandler()
    if stream is not None:
        handler = LineHandler(stream.fileno())
        for_a_person = stream.isatty() if readable is None else readable
        handler.setFormatter(Readable() if for_a_person else JsonLines(resource))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Facts that no line shows, and that logging would gather for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for talkative in ("httpx2", "httpcore2"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


class LineHandler(QueueHandler):
    """Formats log lines and queues them for its thread, which writes them to a file; see `configure_logs`."""

    queue: SimpleQueue[Any]

    def __init__(self, file: int, most: int = QUEUED_LINES) -> None:
        super().__init__(SimpleQueue())
        self.most = most
        self.dropped = 0
        """Lines for which the queue had no room, since the start."""
        self._writer = LineWriter(self, file)
        self._writer.start()

    def prepare(self, record: logging.LogRecord) -> bytes:
        """Return the line."""
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def enqueue(self, record: Any) -> None:
        """Queue a line, or drop it where the queue is full."""
        if self.queue.qsize() < self.most:
            self.queue.put(record)
        else:
            self.dropped += 1

    def flush(self) -> None:
        """Wait until what was logged so far is written, `FLUSH_TIMEOUT` at most."""
        written = threading.Event()
        self.queue.put(written)
        written.wait(FLUSH_TIMEOUT)

    def close(self) -> None:
        """End the thread once it has written what is queued."""
        self._writer.enqueue_sentinel()
        super().close()


class LineWriter(QueueListener):
    """Writes the lines of a `LineHandler` to a file, and how many were lost."""

    def __init__(self, handler: LineHandler, file: int) -> None:
        super().__init__(handler.queue)
        self._handler = handler
        self._file = file
        self._failed = 0
        """Lines that could not be written, since the start."""
        self._reported = 0
        """Lost lines that a line has told of."""

    def handle(self, record: Any) -> None:
        """Write what is queued; where lines were lost, and there is room again, a line that says how many."""
        queue = self._handler.queue
        batch = [record, *(queue.get() for _ in range(queue.qsize()))]
        lines = [each for each in batch if isinstance(each, bytes)]
        if unwritten := self._write(b"".join(lines)):
            self._failed += unwritten.count(b"\n")
        elif lines and queue.qsize() <= self._handler.most // 2:
            self._report()
        for each in batch:
            if isinstance(each, threading.Event):  # see LineHandler.flush
                each.set()
        if None in batch:
            self.enqueue_sentinel()
        else:
            time.sleep(PAUSE)

    def _report(self) -> None:
        lost = self._handler.dropped + self._failed - self._reported
        if lost and not self._write(self._handler.prepare(record_of(Told(LINES_LOST, {"lost": lost}), time.time()))):
            self._reported += lost

    def _write(self, lines: bytes) -> bytes:
        """Write, for as long as it takes; return what cannot be written: the reader has gone, or the disk is full."""
        with suppress(OSError):
            while lines:
                lines = lines[os.write(self._file, lines) :]
        return lines


class JsonLines(logging.Formatter):
    """One JSON object a record, with the ids of the current span where there is one."""

    def __init__(self, resource: Mapping[str, str] = NOTHING) -> None:
        super().__init__()
        self._process = {name: resource[name] for name in IN_LINES if name in resource}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        event, attributes = told_by(record)
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "event": event.name,
            "message": record.getMessage().strip(),
            **self._process,
            **_ids_of_current_span(),
            **attributes,
        }
        if record.exc_info and record.exc_info[1]:
            line["exception.type"] = type(record.exc_info[1]).__qualname__
            line["exception.stacktrace"] = stack_of(record.exc_info[1], event)
        return _encoded(line).decode()


class Readable(logging.Formatter):
    """Time, message and the attributes that it does not show, warnings and errors in colour.

    What is not printable is escaped: a request can neither move the cursor nor make up a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text; a stack follows on indented lines of its own."""
        event, attributes = told_by(record)
        shown = in_message(event)
        fields = [f"{name}={value}" for name, value in attributes.items() if name not in shown]
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


def _ids_of_current_span() -> dict[str, str]:
    """Return trace and span that are recorded, here or by the caller: others are nowhere to be found."""
    span = get_current_span().get_span_context()
    if not span.is_valid or not (span.trace_flags.sampled or span.is_remote):
        return {}
    return {"trace_id": format_trace_id(span.trace_id), "span_id": format_span_id(span.span_id)}


def _encoded(line: dict[str, Any]) -> bytes:
    """Return a line as JSON; what JSON does not know, and what would be too long, as text and clipped."""
    encoded = b""
    with suppress(TypeError, ValueError, RecursionError):
        encoded = msgspec.json.encode(line)
    for most in _CLIPPED:
        if 0 < len(encoded) < MAX_LINE:
            break
        encoded = msgspec.json.encode({_text(name): _value(value, most) for name, value in line.items()})
    return encoded


def _value(value: Any, most: int) -> Any:
    if value is None or isinstance(value, int | float | datetime):
        return value
    return clipped(_text(value), most)


def _text(value: Any) -> str:
    return str(value).encode(errors="backslashreplace").decode()

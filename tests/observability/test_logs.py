"""Log lines: one JSON object each, none lost, none in the way of what the service is there for."""

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability.events import Told, record_of, tell
from observability.logs import HELD_LINES, MAX_LINE, HeldLines, JsonLines, configure_logs, flush_logs
from observability.signals import MODEL_CHECK_FAILED, MODEL_KEPT, Event
from observability.tracing import RequestSpan, current_ids

log = logging.getLogger("tests.logs")
EVENT = Event("calsvc.test", "info", "calsvc", "message", "Something of which a test tells.", ("anything",))


RESOURCE = {"service.name": "tests", "service.version": "1.2.3", "service.instance.id": "here-1", "other": "not shown"}


class Terminal(io.StringIO):
    """A stream at which a person looks."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.fixture(autouse=True)
def declared_events_only() -> None:
    """Not here, where events are made up."""


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What `configure_logs` changes in the process is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    flags = {name: getattr(logging, name) for name in ("logThreads", "logProcesses", "logMultiprocessing")}
    talkative = {name: logging.getLogger(name).level for name in ("httpx2", "httpcore2")}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, flag in flags.items():
        setattr(logging, name, flag)
    for name, level_before in talkative.items():
        logging.getLogger(name).setLevel(level_before)


@pytest.fixture
def stream() -> io.StringIO:
    """A stream that a machine reads, to which all logs go."""
    stream = io.StringIO()
    configure_logs(stream, RESOURCE, current_ids)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Everything that was logged, one object a line."""
    flush_logs()
    text = stream.getvalue()
    assert text == "" or text.endswith("\n")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.split("\n")[:-1]]


def line_of(message: str = "message", **fields: Any) -> Any:
    """One record as `JsonLines` writes it."""
    record = record_of(Told(EVENT, fields), 0.0)
    record.msg = message
    text = JsonLines().format(record)
    assert len(text) < MAX_LINE
    assert "\n" not in text
    return json.loads(text, parse_constant=pytest.fail)


# --- JSON lines -------------------------------------------------------------------------------------------------------


def test_a_line_says_when_how_bad_where_and_what(stream: io.StringIO):
    """Timestamp in UTC, level, event, message with its arguments, whose it is, and nothing else."""
    before = datetime.now(UTC)
    log.info("%d rows from %s", 3, "train.csv")
    after = datetime.now(UTC)
    (line,) = lines(stream)
    assert before <= datetime.fromisoformat(line.pop("timestamp")) <= after
    assert line == {
        "level": "info",
        "event": "library.line",
        "logger": "tests.logs",
        "message": "3 rows from train.csv",
        "service.name": "tests",
        "service.version": "1.2.3",
        "service.instance.id": "here-1",
    }


@pytest.mark.parametrize(
    ("logger", "event"),
    [("uvicorn.error", "uvicorn.line"), ("asyncio", "library.line"), ("uvicornish", "library.line")],
)
def test_no_line_is_without_an_event(stream: io.StringIO, logger: str, event: str):
    """The HTTP server's lines have one, and all other libraries' together one, each with its logger's name."""
    logging.getLogger(logger).warning("%s happened", "it")
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["message"]) == (event, logger, "it happened")


def test_a_warning_of_python_is_a_line(stream: io.StringIO):
    """And not text on stderr that no machine reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # once more: catching has put the display back
        warnings.warn("old habits", FutureWarning, stacklevel=1)
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("library.line", "warning", "py.warnings")
    assert "FutureWarning: old habits" in line["message"]


def test_an_event_fills_in_its_message(stream: io.StringIO):
    """What stands in braces is taken from the attributes, which are keys as well; a per cent sign is one."""
    tell(MODEL_KEPT, {"role": "champion", "outcome": "rejected", "error.message": "100 % {wrong}"})
    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("calsvc.model.kept", "warning")
    assert line["message"] == "the champion stays as it is: 100 % {wrong}"
    assert (line["role"], line["outcome"], line["error.message"]) == ("champion", "rejected", "100 % {wrong}")


def test_fields_become_keys(stream: io.StringIO):
    """Numbers stay numbers, structures stay structures."""
    tell(EVENT, {"http.route": "/predict", "status": 200, "ids": [1, "a"], "none": None})
    (line,) = lines(stream)
    told = {name: line[name] for name in ("http.route", "status", "ids", "none")}
    assert told == {"http.route": "/predict", "status": 200, "ids": [1, "a"], "none": None}


def test_a_line_within_a_span_has_its_ids(stream: io.StringIO):
    """Before and after it, none."""
    log.info("before")
    span = RequestSpan(None)
    log.info("within")
    span.end()
    log.info("after")
    assert [(line["message"], line.get("trace_id"), line.get("span_id")) for line in lines(stream)] == [
        ("before", None, None),
        ("within", span.ids["trace_id"], span.ids["span_id"]),
        ("after", None, None),
    ]


def test_an_exception_is_part_of_its_line(stream: io.StringIO):
    """The whole traceback, its line ends escaped."""
    try:
        raise ZeroDivisionError("what\nnow")
    except ZeroDivisionError:
        log.exception("that went wrong")
    (line,) = lines(stream)
    assert (line["level"], line["message"]) == ("error", "that went wrong")
    assert line["exception.type"] == "ZeroDivisionError"
    assert line["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert line["exception.stacktrace"].endswith("ZeroDivisionError: what\nnow")


def failed_on(value: str) -> Exception:
    """An error that quotes what it was given, behind another one that does."""
    try:
        try:
            float(value)
        except ValueError as error:
            raise KeyError(value) from error
    except KeyError as error:
        return error


def test_the_stack_of_a_failed_request_quotes_nothing(stream: io.StringIO):
    """The server's line about it has frames and types, of the cause as well, and not what the errors say."""
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=failed_on("weight seventy"))
    tell(MODEL_CHECK_FAILED, {"role": "champion"}, failed_on("model seventy"))
    of_request, of_check = lines(stream)
    assert (of_request["message"], of_request["exception.type"]) == ("Exception in ASGI application", "KeyError")
    assert "float(value)" in of_request["exception.stacktrace"]
    assert [line for line in of_request["exception.stacktrace"].splitlines() if not line.startswith(" ")] == [
        "Traceback (most recent call last):",
        "ValueError",
        "",
        "Traceback (most recent call last):",
        "KeyError",
    ]
    assert "seventy" not in json.dumps(of_request)
    assert "model seventy" in of_check["exception.stacktrace"]


@pytest.mark.parametrize("unit", ["x", "\x00", "😀", '"', "\udcff"])
@pytest.mark.parametrize("length", [MAX_LINE - 300, MAX_LINE, 1_000_000])
def test_a_line_is_bounded(stream: io.StringIO, unit: str, length: int):
    """Whatever the message, an attribute or an error brings; what was left out is said, the line's end is kept."""
    try:
        raise ZeroDivisionError(unit * length + "the end")
    except ZeroDivisionError as error:
        tell(EVENT, {"text": unit * length, "list": [unit * length], "number": 5}, error)
    log.info("%s the end", unit * length)
    told, foreign = lines(stream)
    assert max(len(line.encode()) for line in stream.getvalue().split("\n")) < MAX_LINE
    assert (told["number"], told["event"]) == (5, "calsvc.test")
    assert "characters left out" in told["text"]
    assert told["exception.stacktrace"].endswith("the end")
    assert foreign["message"].endswith("the end")


@pytest.mark.parametrize(
    "text", ["two\nlines", "\r\n", "\x00\x1b[31m", 'a "quote" and \\', "\u2028\u2029\x85", "ü😀", ""]
)
def test_a_message_stays_in_its_line(stream: io.StringIO, text: str):
    """Whatever characters somebody smuggles in, it is one line of printable text and reads back as it was."""
    log.info("%s", text)
    tell(EVENT, {"text": text})
    told = lines(stream)
    assert [line["message"] for line in told] == [text.strip(), "message"]
    assert told[1]["text"] == text
    assert "\x1b" not in stream.getvalue()


class Unspeakable:
    """Something that JSON does not know."""

    def __repr__(self) -> str:
        return "<unspeakable>"


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Unspeakable(), "<unspeakable>"),
        (ValueError("wrong"), "wrong"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ([Unspeakable()], "[<unspeakable>]"),
        ("\udcff.csv", "\\udcff.csv"),
        (ENDLESS, "[[...]]"),
        (float("nan"), None),
        ({1}, [1]),
        (2**70, 2**70),
    ],
)
def test_a_value_that_json_lacks_costs_no_line(value: Any, written: Any):
    """It is written as text; the fields beside it stay what they are."""
    line = line_of(odd=value, status=200)
    assert (line["message"], line["odd"], line["status"]) == ("message", written, 200)


def test_a_message_that_is_no_unicode_costs_no_line():
    """A file name of bytes that are no UTF-8, as Python hands it over."""
    assert line_of("cannot read \udcff.csv")["message"] == "cannot read \\udcff.csv"


@given(
    st.text(st.characters(codec=None)),
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none()), max_size=4),
)
def test_every_record_is_one_object(message: str, fields: dict[str, Any]):
    """Of any text and any fields."""
    line = line_of(message.replace("%", ""), **{f"_{name}": value for name, value in fields.items()})
    assert {"timestamp", "level", "event", "message", *(f"_{name}" for name in fields)} == set(line)


def test_a_line_that_cannot_be_made_stops_nobody(capsys: pytest.CaptureFixture[str]):
    """Arguments that do not fit: logging complains on stderr, the lines around it are written."""
    stream = io.StringIO()
    configure_logs(stream)  # here and not before: pytest's own handler raises
    log.info("before")
    log.info("%d", "no number")
    log.info("after")
    assert [line["message"] for line in lines(stream)] == ["before", "after"]
    assert "TypeError" in capsys.readouterr().err


# --- held lines -------------------------------------------------------------------------------------------------------


def test_lines_are_held_until_somebody_flushes(stream: io.StringIO):
    """One write for many lines, in their order."""
    for number in range(3):
        log.info("%d", number)
    assert stream.getvalue() == ""
    assert [line["message"] for line in lines(stream)] == ["0", "1", "2"]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_a_warning_is_written_at_once(stream: io.StringIO, level: int):
    """And with it all that came before, in order."""
    log.info("first")
    log.info("second")
    log.log(level, "third")
    written = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert written == ["first", "second", "third"]


def test_no_more_than_a_bound_is_held(stream: io.StringIO):
    """One below the bound nothing is written, at the bound everything."""
    for number in range(HELD_LINES - 1):
        log.info("%d", number)
    assert stream.getvalue() == ""
    log.info("the last")
    assert stream.getvalue().count("\n") == HELD_LINES


def test_nothing_is_written_twice(stream: io.StringIO):
    """Flushing what was flushed writes nothing."""
    log.warning("once")
    flush_logs()
    flush_logs()
    assert len(lines(stream)) == 1


def test_a_stream_that_was_closed_stops_nobody(stream: io.StringIO):
    """Logging goes on, at every level, and so does whoever logs."""
    log.info("held")
    stream.close()
    flush_logs()
    log.warning("at once")
    for _ in range(HELD_LINES):
        log.info("many")
    flush_logs()


def test_a_reader_that_has_gone_stops_nobody():
    """`just serve | head`: the pipe breaks and the service lives on."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        configure_logs(stream)
        os.close(read)
        log.warning("at once")
        log.info("held")
        flush_logs()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, write)  # what is left in the stream's buffer has to go somewhere
        os.close(nowhere)


def test_a_disk_that_was_full_gets_what_comes_later():
    """A failed write is forgotten, not repeated for ever and not the end."""

    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    configure_logs(stream)
    log.warning("lost")
    stream.full = False
    log.warning("kept")
    assert [line["message"] for line in lines(stream)] == ["kept"]


def test_a_handler_flushes_what_it_holds_when_logging_ends():
    """Python's own end of logging, as at the end of the process."""
    stream = io.StringIO()
    handler = HeldLines(stream)
    handler.setFormatter(JsonLines())
    handler.handle(logging.makeLogRecord({"name": "a", "msg": "the last words", "levelno": logging.INFO}))
    logging.shutdown([lambda: handler])  # type: ignore[list-item]
    assert json.loads(stream.getvalue())["message"] == "the last words"


# --- terminal, and the process ----------------------------------------------------------------------------------------


def at_a_terminal(level: Any, **fields: Any) -> str:
    """What a person sees of one line."""
    stream = Terminal()
    configure_logs(stream)
    tell(EVENT._replace(level=level), fields)
    return stream.getvalue()


def test_a_person_sees_plain_lines_at_once():
    """Time, message and fields; no JSON and no colour."""
    time_of_day, _, rest = at_a_terminal("info", status=200, route="/predict").partition(" ")
    assert len(time_of_day.split(":")) == 3
    assert rest == "message status=200 route=/predict\n"


@pytest.mark.parametrize(("level", "colour"), [("warning", "33"), ("error", "31")])
def test_what_is_bad_has_a_colour(level: str, colour: str):
    """From its first to its last character."""
    text = at_a_terminal(level, status=500)
    assert text.startswith(f"\x1b[{colour}m")
    assert text.endswith("message status=500\x1b[0m\n")


def test_a_terminal_shows_the_traceback():
    """On lines of its own, below the message and indented: none of them can pass for a line of the log."""
    stream = Terminal()
    configure_logs(stream)
    try:
        raise ZeroDivisionError("now\n12:00:00 all is well\x1b[2K")
    except ZeroDivisionError as error:
        tell(EVENT, {"status": 500}, error)
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("message status=500")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-2:] == ["  ZeroDivisionError: now", "  12:00:00 all is well\\x1b[2K"]
    assert all(line.startswith("  ") for line in rest)


def test_what_the_message_says_is_not_said_twice():
    """Attributes that stand in the message do not follow it."""
    stream = Terminal()
    configure_logs(stream)
    tell(MODEL_KEPT, {"role": "champion", "outcome": "rejected", "error.message": "no"})
    assert stream.getvalue().endswith(" the champion stays as it is: no outcome=rejected\x1b[0m\n")


def test_a_line_on_a_terminal_is_bounded():
    """As long as one in JSON, and a little for time and colour."""
    assert len(at_a_terminal("error", text="x" * 1_000_000)) < MAX_LINE + 100


@pytest.mark.parametrize(
    "text", ["two\nlines", "\r\x1b[2K12:00:00 all is well", "\x00\x7f\x9b31m", "\u2028\u202e\u200b"]
)
def test_nobody_makes_up_a_line_or_moves_the_cursor(text: str):
    """What is not printable is escaped on a terminal, in the message and beside it; the rest stays readable."""
    stream = Terminal()
    configure_logs(stream)
    log.info("ü %s", text)
    shown = stream.getvalue()
    assert shown.endswith("\n")
    assert shown[:-1].isprintable()
    assert "ü " in shown
    assert ascii(text)[1:-1].replace("\\\\", "\\") in shown


def test_configuring_replaces_what_was_there(stream: io.StringIO):
    """Once more, to another stream: no line is written twice, and none to the first."""
    other = io.StringIO()
    configure_logs(other)
    log.warning("message")
    assert (lines(stream), len(lines(other))) == ([], 1)


def test_details_and_http_clients_are_not_logged(stream: io.StringIO):
    """The exporter's own requests, and what is below INFO."""
    log.debug("detail")
    logging.getLogger("httpx2").info("HTTP Request: POST ...")
    logging.getLogger("httpcore2.connection").info("connect")
    assert lines(stream) == []

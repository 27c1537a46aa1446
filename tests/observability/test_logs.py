"""Log lines: one JSON object each, none lost, none in the way of what the service is there for."""

import json
import logging
import os
import pty
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from observability.events import NOTHING, Told, record_of, tell
from observability.logs import MAX_LINE, QUEUED_LINES, JsonLines, LineHandler, configure_logs
from observability.signals import MODEL_CHECK_FAILED, MODEL_KEPT, Event
from tests.service_process import PATIENCE, ROOT

log = logging.getLogger("tests.logs")
EVENT = Event("calsvc.test", "info", "calsvc", "message", "Something of which a test tells.", ("anything",))


RESOURCE = {"service.name": "tests", "service.version": "1.2.3", "service.instance.id": "here-1", "other": "not shown"}


Shown = Callable[[], str]
"""Returns what was written so far."""


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


@contextmanager
def logging_to(path: Path, resource: Any = NOTHING, *, readable: bool = False) -> Iterator[Shown]:
    """All logs go to a file."""

    def shown() -> str:
        logging.getLogger().handlers[0].flush()
        return path.read_text()

    with path.open("w") as stream:
        configure_logs(stream, resource, readable=readable)
        yield shown
        handler = logging.getLogger().handlers[0]
        handler.flush()
        handler.close()


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    """All logs go to a file, for machines."""
    with logging_to(tmp_path / "log", RESOURCE) as shown:
        yield shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Shown]:
    """All logs go to a file, for a person."""
    with logging_to(tmp_path / "log", readable=True) as shown:
        yield shown


def lines(shown: Shown) -> list[dict[str, Any]]:
    """Everything that was logged, one object a line."""
    text = shown()
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


def test_a_line_says_when_how_bad_where_and_what(shown: Shown):
    """Timestamp in UTC, level, event, message with its arguments, whose it is, and nothing else."""
    before = datetime.now(UTC)
    log.info("%d rows from %s", 3, "train.csv")
    after = datetime.now(UTC)
    (line,) = lines(shown)
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
def test_no_line_is_without_an_event(shown: Shown, logger: str, event: str):
    """The HTTP server's lines have one, and all other libraries' together one, each with its logger's name."""
    logging.getLogger(logger).error("%s happened", "it")
    (line,) = lines(shown)
    assert (line["event"], line["logger"], line["message"]) == (event, logger, "it happened")


def test_a_warning_of_python_is_a_line(shown: Shown):
    """And not text on stderr that no machine reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # once more: catching has put the display back
        warnings.warn("old habits", FutureWarning, stacklevel=1)
    (line,) = lines(shown)
    assert (line["event"], line["level"], line["logger"]) == ("library.line", "warning", "py.warnings")
    assert "FutureWarning: old habits" in line["message"]


def test_an_event_fills_in_its_message(shown: Shown):
    """What stands in braces is taken from the attributes, which are keys as well; a per cent sign is one."""
    tell(MODEL_KEPT, {"role": "champion", "outcome": "rejected", "error.message": "100 % {wrong}"})
    (line,) = lines(shown)
    assert (line["event"], line["level"]) == ("calsvc.model.kept", "warning")
    assert line["message"] == "the champion stays as it is: 100 % {wrong}"
    assert (line["role"], line["outcome"], line["error.message"]) == ("champion", "rejected", "100 % {wrong}")


def test_fields_become_keys(shown: Shown):
    """Numbers stay numbers, structures stay structures."""
    tell(EVENT, {"http.route": "/predict", "status": 200, "ids": [1, "a"], "none": None})
    (line,) = lines(shown)
    told = {name: line[name] for name in ("http.route", "status", "ids", "none")}
    assert told == {"http.route": "/predict", "status": 200, "ids": [1, "a"], "none": None}


def test_a_line_within_a_span_has_its_ids(shown: Shown):
    """Before and after it, none."""
    log.info("before")
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        log.info("within")
        own = span.get_span_context()
    log.info("after")
    assert [(line["message"], line.get("trace_id"), line.get("span_id")) for line in lines(shown)] == [
        ("before", None, None),
        ("within", format_trace_id(own.trace_id), format_span_id(own.span_id)),
        ("after", None, None),
    ]


def test_an_exception_is_part_of_its_line(shown: Shown):
    """The whole traceback, its line ends escaped."""
    try:
        raise ZeroDivisionError("what\nnow")
    except ZeroDivisionError:
        log.exception("that went wrong")
    (line,) = lines(shown)
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


def test_the_stack_of_a_failed_request_quotes_nothing(shown: Shown):
    """The server's line about it has frames and types, of the cause as well, and not what the errors say."""
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=failed_on("weight seventy"))
    tell(MODEL_CHECK_FAILED, {"role": "champion"}, failed_on("model seventy"))
    of_request, of_check = lines(shown)
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
def test_a_line_is_bounded(shown: Shown, unit: str, length: int):
    """Whatever the message, an attribute or an error brings; what was left out is said, the line's end is kept."""
    try:
        raise ZeroDivisionError(unit * length + "the end")
    except ZeroDivisionError as error:
        tell(EVENT, {"text": unit * length, "list": [unit * length], "number": 5}, error)
    log.info("%s the end", unit * length)
    told, foreign = lines(shown)
    assert max(len(line.encode()) for line in shown().split("\n")) < MAX_LINE
    assert (told["number"], told["event"]) == (5, "calsvc.test")
    assert "characters left out" in told["text"]
    assert told["exception.stacktrace"].endswith("the end")
    assert foreign["message"].endswith("the end")


@pytest.mark.parametrize(
    "text", ["two\nlines", "\r\n", "\x00\x1b[31m", 'a "quote" and \\', "\u2028\u2029\x85", "ü😀", ""]
)
def test_a_message_stays_in_its_line(shown: Shown, text: str):
    """Whatever characters somebody smuggles in, it is one line of printable text and reads back as it was."""
    log.info("%s", text)
    tell(EVENT, {"text": text})
    told = lines(shown)
    assert [line["message"] for line in told] == [text.strip(), "message"]
    assert told[1]["text"] == text
    assert "\x1b" not in shown()


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


def test_a_line_that_cannot_be_made_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Arguments that do not fit: logging complains on stderr, the lines around it are written."""
    with logging_to(tmp_path / "log") as shown:  # here and not before: pytest's own handler raises
        log.info("before")
        log.info("%d", "no number")
        log.info("after")
        assert [line["message"] for line in lines(shown)] == ["before", "after"]
    assert "TypeError" in capsys.readouterr().err


# --- the queue --------------------------------------------------------------------------------------------------------


def test_concurrent_writers_leave_whole_lines(shown: Shown):
    """More of them than the queue holds: each line is whole and in its thread's order, or is counted as lost."""

    def write(thread: int) -> None:
        for number in range(QUEUED_LINES):
            tell(EVENT, {"thread": thread, "number": number})

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown()
    tell(EVENT, {"thread": -1, "number": 0})
    written = lines(shown)
    lost = sum(line.get("lost", 0) for line in written)
    assert lost + sum("number" in line for line in written) == 4 * QUEUED_LINES + 1
    for thread in range(4):
        numbers = [line["number"] for line in written if line.get("thread") == thread]
        assert numbers == sorted(numbers)


@contextmanager
def queued_to(file: int, most: int = QUEUED_LINES) -> Iterator[LineHandler]:
    """A handler of its own, to a file."""
    handler = LineHandler(file, most)
    handler.setFormatter(JsonLines())
    yield handler
    handler.close()


def test_a_full_pipe_is_not_waited_for():
    """What is too much is lost; what was queued comes in order, and every line is written or counted."""
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write), queued_to(write, most=10) as handler:
        for number in range(1000):
            handler.handle(record_of(Told(EVENT, {"number": number, "text": "x" * 1000}), 0.0))
        written: list[dict[str, Any]] = []
        while sum(line.get("lost", 1) for line in written) < 1000:
            written.append(json.loads(reader.readline()))
        handler.handle(record_of(Told(EVENT, {"number": 1000}), 0.0))
        assert json.loads(reader.readline())["number"] == 1000
    numbers = [line["number"] for line in written if "number" in line]
    assert numbers == sorted(numbers)
    assert len(numbers) < 1000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_was_full_gets_what_comes_later(tmp_path: Path):
    """A failed write is not repeated, and not the end; it is counted, and the next line that can be written says so."""
    with Path("/dev/full").open("w") as full, (tmp_path / "log").open("w") as disk, queued_to(full.fileno()) as handler:
        for _ in range(3):
            handler.handle(record_of(Told(EVENT, {}), 0.0))
        handler.flush()
        os.dup2(disk.fileno(), full.fileno())
        for _ in range(2):
            handler.handle(record_of(Told(EVENT, {}), 0.0))
            handler.flush()
    written = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["event"], line.get("lost")) for line in written] == [
        ("calsvc.test", None),
        ("telemetry.lines.lost", 3),
        ("calsvc.test", None),
    ]


def test_a_reader_that_has_gone_stops_nobody():
    """`just serve | head`: the pipe breaks, and logging goes on."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write), queued_to(write) as handler:
        for _ in range(3):
            handler.handle(record_of(Told(EVENT, {}), 0.0))
            handler.flush()
        assert handler.dropped == 0


PROCESS = """
import logging, sys
from observability.logs import configure_logs

configure_logs(sys.stdout, readable=False)
for number in range(1000):
    logging.getLogger("a").info("%d " + "x" * 1000, number)
"""


@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise ZeroDivisionError", 1)])
def test_the_last_lines_are_written_at_the_end(end: str, code: int):
    """All of them, also of a process that crashes."""
    ended = run("", PROCESS + end)
    assert ended.returncode == code
    assert [json.loads(line)["message"].split()[0] for line in ended.stdout.splitlines()] == [
        str(number) for number in range(1000)
    ]


def test_a_process_whose_stdout_is_closed_goes_on():
    """Its lines are lost, and it ends as always."""
    ended = run(">&-", PROCESS + "print('done', file=sys.stderr)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "done\n")


def test_a_process_whose_log_is_not_read_ends():
    """It does not wait for long; the lines that are in the pipe are whole but for the last."""
    with subprocess.Popen([sys.executable, "-c", PROCESS], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        first, *_ = process.stdout.read().splitlines()
    assert json.loads(first)["message"].startswith("0 x")


def run(redirection: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run a process to its end."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)


# --- terminal, and the process ----------------------------------------------------------------------------------------


def test_a_person_sees_plain_lines(terminal: Shown):
    """Time, message and fields; no JSON and no colour."""
    tell(EVENT, {"status": 200, "route": "/predict"})
    time_of_day, _, rest = terminal().partition(" ")
    assert len(time_of_day.split(":")) == 3
    assert rest == "message status=200 route=/predict\n"


def test_a_terminal_is_recognised():
    """Without being told what `stream` is."""
    reading, writing = pty.openpty()
    with os.fdopen(reading, "rb", buffering=0) as screen, os.fdopen(writing, "w") as stream:
        configure_logs(stream)
        tell(EVENT, {"status": 200})
        assert screen.read(1000).endswith(b" message status=200\r\n")
        logging.getLogger().handlers[0].close()


@pytest.mark.parametrize(("level", "colour"), [("warning", "33"), ("error", "31")])
def test_what_is_bad_has_a_colour(terminal: Shown, level: Any, colour: str):
    """From its first to its last character."""
    tell(EVENT._replace(level=level), {"status": 500})
    text = terminal()
    assert text.startswith(f"\x1b[{colour}m")
    assert text.endswith("message status=500\x1b[0m\n")


def test_a_terminal_shows_the_traceback(terminal: Shown):
    """On lines of its own, below the message and indented: none of them can pass for a line of the log."""
    try:
        raise ZeroDivisionError("now\n12:00:00 all is well\x1b[2K")
    except ZeroDivisionError as error:
        tell(EVENT, {"status": 500}, error)
    first, *rest = terminal().splitlines()
    assert first.endswith("message status=500")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-2:] == ["  ZeroDivisionError: now", "  12:00:00 all is well\\x1b[2K"]
    assert all(line.startswith("  ") for line in rest)


def test_what_the_message_says_is_not_said_twice(terminal: Shown):
    """Attributes that stand in the message do not follow it."""
    tell(MODEL_KEPT, {"role": "champion", "outcome": "rejected", "error.message": "no"})
    assert terminal().endswith(" the champion stays as it is: no outcome=rejected\x1b[0m\n")


def test_a_line_on_a_terminal_is_bounded(terminal: Shown):
    """As long as one in JSON, and a little for time and colour."""
    tell(EVENT._replace(level="error"), {"text": "x" * 1_000_000})
    assert len(terminal()) < MAX_LINE + 100


@pytest.mark.parametrize(
    "text", ["two\nlines", "\r\x1b[2K12:00:00 all is well", "\x00\x7f\x9b31m", "\u2028\u202e\u200b"]
)
def test_nobody_makes_up_a_line_or_moves_the_cursor(terminal: Shown, text: str):
    """What is not printable is escaped on a terminal, in the message and beside it; the rest stays readable."""
    log.info("ü %s", text)
    shown = terminal()
    assert shown.endswith("\n")
    assert shown[:-1].isprintable()
    assert "ü " in shown
    assert ascii(text)[1:-1].replace("\\\\", "\\") in shown


@pytest.mark.usefixtures("shown")
def test_configuring_replaces_what_was_there(tmp_path: Path):
    """Once more, to another stream: no line is written twice, and none to the first."""
    with logging_to(tmp_path / "other") as other:
        log.warning("message")
        assert len(lines(other)) == 1
    assert (tmp_path / "log").read_text() == ""


def test_details_and_http_clients_are_not_logged(shown: Shown):
    """The exporter's own requests, and what is below INFO."""
    log.debug("detail")
    logging.getLogger("httpx2").info("HTTP Request: POST ...")
    logging.getLogger("httpcore2.connection").info("connect")
    assert lines(shown) == []

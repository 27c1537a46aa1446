"""Events are told as they were declared, or a test says so."""

import re
from pathlib import Path

import pytest

from observability.events import in_message, tell
from observability.signals import EVENTS, MODEL_INSTALLED, MODEL_KEPT, REQUESTS_REFUSED, Event
from observability.testing import complaints, listening

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def declared_events_only() -> None:
    """Not here, where it is itself what is tested."""


def test_what_is_told_is_heard():
    """With its attributes, of every owner."""
    with listening() as listener:
        tell(REQUESTS_REFUSED, {"refused": 3, "seconds": 0.5})
    tell(REQUESTS_REFUSED, {"refused": 4, "seconds": 0.5})
    assert listener.told == [(REQUESTS_REFUSED, {"refused": 3, "seconds": 0.5})]
    assert listener.complaints() == []


def test_an_undeclared_event_is_complained_of():
    """A name is born in signals.py or not at all."""
    assert complaints("calsvc.invented", {}) == ["calsvc.invented is no event of observability/signals.py"]


def test_undeclared_and_missing_attributes_are_complained_of():
    """Those that only some lines have may be missing, and any line may name its span."""
    told = {"role": "champion", "model_version": "1", "trace_id": "a", "span_id": "b"}
    assert complaints(MODEL_INSTALLED.name, told | {"engine": "onnx"}) == []
    assert complaints(MODEL_INSTALLED.name, told | {"weight": 71}) == [
        "calsvc.model.installed does not declare weight",
        "calsvc.model.installed lacks engine",
    ]


def test_a_listener_complains():
    """That is what every test of this project ends with."""
    with listening() as listener:
        tell(MODEL_KEPT, {"role": "champion", "error.message": "no", "height": 172})
    assert listener.complaints() == ["calsvc.model.kept does not declare height", "calsvc.model.kept lacks outcome"]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_message_takes_only_what_every_line_has(event: Event):
    """A line is never lost for an attribute that only some lines have."""
    assert in_message(event) <= set(event.attributes)
    assert re.fullmatch(r"[a-z]+(\.[a-z_]+)+", event.name)


def test_names_are_declared_once():
    """Two events of one name could not be told apart."""
    assert len({event.name for event in EVENTS}) == len(EVENTS)


def test_nobody_logs_past_the_declarations():
    """`tell` is the only way: no module of the project writes a line of its own."""
    sources = [path for room in ("calsvc", "streamsim", "observability") for path in (ROOT / room).rglob("*.py")]
    writing = re.compile(r"\blog(?:ger)?\.(?:debug|info|warning|error|exception|critical|log)\(|\bwarnings\.warn\(")
    assert len(sources) > 50
    assert [str(path.relative_to(ROOT)) for path in sources if writing.search(path.read_text())] == []

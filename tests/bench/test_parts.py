"""Every part of `just bench` still runs, in small, and its page is made of its JSON. No figure is judged."""

from typing import Any

import msgspec
import pytest

from tests.bench import ladder, outage, overload, part, pending, scorer, window
from tests.bench.machine import machine
from tests.bench.measure import Figures
from tests.bench.page import PARTS, Document, page
from tests.bench.rungs import LADDER, PARTIAL
from tests.conftest import Workshop
from tests.needs import needs

pytestmark = [pytest.mark.slow, pytest.mark.alone]

TINY = part.Options(rounds=1, seconds=0.2, warmup=0.1)


@pytest.fixture
def our_model(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle and the handout of the tests, as those that are measured."""
    for name, value in workshop.environ().items():
        monkeypatch.setenv(name, value)


def demand_written(name: str, result: Any) -> str:
    """The result survives JSON, and its page is made from what comes back; return the page."""
    back = msgspec.json.decode(part.encoded(result), type=PARTS[name].kind)
    assert back == result
    return PARTS[name].markdown(back)


@pytest.mark.usefixtures("our_model")
def test_the_ladder_in_small():
    """An echo and the whole service, for a moment: rates, shares, and about every tenth request as a span."""
    result = ladder.measure(TINY._replace(only=("bareecho", "everything")))
    page = demand_written("ladder", result)
    assert [each.name for each in result.rungs] == ["bare echo", "everything"]
    assert all(isinstance(each, Figures) and each.requests_per_second.low > 0 for each in result.rungs)
    assert [each.rung for each in result.arrived] == ["everything"]
    assert "| everything |" in page


@pytest.mark.usefixtures("our_model")
def test_a_service_with_parts_replaced_still_answers():
    """All rungs are the real application: a part that was renamed is missed here."""
    slugs = [rung.slug for rung in LADDER if rung.module[0] == PARTIAL]
    result = ladder.measure(TINY._replace(only=tuple(slugs)))
    assert len(result.rungs) == len(slugs) == 7


@pytest.mark.usefixtures("our_model")
def test_waiting_predictions_in_small(monkeypatch: pytest.MonkeyPatch):
    """As many wait at the end as were to wait, whatever was asked meanwhile."""
    monkeypatch.setattr(pending, "COUNTS", (100,))
    result = pending.measure(TINY)
    assert "| 100 waiting |" in demand_written("pending", result)
    assert set(result.scrapes["100 waiting"]) == set(pending.FORMATS)


@pytest.mark.usefixtures("our_model")
def test_overload_in_small(monkeypatch: pytest.MonkeyPatch):
    """More connections than may be in flight: some are refused, and probes are answered all the same."""
    monkeypatch.setattr(overload, "LIMITS", (2,))
    monkeypatch.setattr(overload, "CONNECTIONS", (2, 16))
    few, many = overload.measure(TINY).pressures
    assert (few.refused.high, many.refused.low > 0, many.asked_meanwhile > 0) == (0, True, True)


@needs("collector", "prometheus", "pyroscope")
@pytest.mark.usefixtures("our_model")
def test_an_outage_in_small(monkeypatch: pytest.MonkeyPatch):
    """All there, all killed, all there again: nothing fails, and what was lost has come back."""
    monkeypatch.setattr(outage, "LOSSES", {"all three killed": outage.LOSSES["all three killed"]})
    result = outage.measure(TINY)
    assert [phase.name for phase in result.phases] == [outage.ALIVE, "all three killed", outage.BACK]
    assert all(phase.records > 0 and phase.failed == 0 for phase in result.phases)
    assert "| all three killed |" in demand_written("outage", result)


def test_the_window_in_small(monkeypatch: pytest.MonkeyPatch):
    """Five minutes of labels at one a second, all of them in the window."""
    monkeypatch.setattr(window, "RATES", (1,))
    result = window.measure(TINY)
    assert [each.labels for each in result.rates] == [300]
    assert "| labels in the window | 300 |" in demand_written("window", result)


@pytest.mark.usefixtures("our_model")
def test_the_scorer_in_small(monkeypatch: pytest.MonkeyPatch):
    """Every way with every batch, the handout's own among them."""
    monkeypatch.setattr(scorer, "BATCHES", (1, 8))
    monkeypatch.setattr(scorer, "AT_LEAST", 0.001)
    result = scorer.measure(TINY)
    assert all(set(way.us) == {1, 8} for way in result.ways)
    assert "the handout's own predict" in demand_written("scorer", result)


@pytest.mark.usefixtures("our_model")
def test_a_page_has_the_machine_and_every_part_of_the_document():
    """Under the headings of the parts, in the order of the document."""
    text = msgspec.Raw(part.encoded({"markdown": "as it was printed"}))
    made = page(Document(machine(), {"startup": text, "service_memory": text}))
    headings = [line for line in made.splitlines() if line.startswith("## ")]
    assert headings == [f"## {PARTS[name].title}" for name in ("startup", "service_memory")]
    assert machine().processor in made
    assert made.count("as it was printed") == 2

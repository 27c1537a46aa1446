"""What faults are judged by, and one of them, made for real; the others are for `just chaos`."""

import msgspec
import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.outcome import Counts, Promise, Seen, broken
from tests.chaos.page import Document, page, row
from tests.chaos.running import observe
from tests.chaos.soak import Soak, markdown
from tests.conftest import Workshop
from tests.needs import needs
from tests.service_process import ROOT

WELL = Counts(
    acknowledged=100, failed={}, joined=100, statuses={"matched": 100}, met=100, owed=0, counted=100, silence=0.1
)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"joined": 97}, "3 predictions lost their truth, promised were at most 0"),
        ({"failed": {"refused": 2, "timeout": 1}}, "3 predictions failed, promised were at most 0"),
        ({"counted": 102}, "2 truths were counted twice"),
        ({"owed": 4}, "4 truths could not be delivered"),
        ({"acknowledged": 0, "joined": 0, "met": 0, "counted": 0}, "nothing was acknowledged at all"),
    ],
)
def test_what_did_not_hold_is_said(change: dict, complaint: str):
    """Each kind of loss by itself."""
    assert broken(Promise("all is well", failed=0), msgspec.structs.replace(WELL, **change)) == [complaint]


def test_a_promise_is_kept_within_its_bounds():
    """So many may be lost, and failures are not always promised not to be."""
    counts = msgspec.structs.replace(WELL, joined=97, failed={"refused": 20})
    assert broken(Promise("at most three", lost=3), counts) == []
    assert broken(Promise("whatever can be read", lost=None), counts) == []
    counts = msgspec.structs.replace(WELL, counted=102)
    assert broken(Promise("two that nobody recorded", unrecorded=2), counts) == []
    assert broken(Promise("one that nobody recorded", unrecorded=1), counts) == ["2 truths were counted twice"]


def test_a_broken_promise_stands_out_in_its_line():
    """Nobody reads over it."""
    seen = Seen("a fault", "a promise", WELL, ["a remark"], ["3 predictions lost their truth"])
    assert row(seen) == (
        "| a fault | a promise | 100 | 0 | 0.1 | 0 | 0 | **no**: 3 predictions lost their truth | a remark |"
    )


def test_the_page_is_that_of_its_json():
    """Nobody has polished a figure; whoever changes the table writes it anew: `just chaos --docs`."""
    document = msgspec.json.decode((ROOT / "docs" / "reliability.json").read_bytes(), type=Document)
    assert page(document) == (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert document.seen.keys() == FAULTS.keys()
    assert {name: seen.broken for name, seen in document.seen.items() if seen.broken} == {}


def test_the_page_of_half_an_hour_is_that_of_its_json():
    """And nothing grew."""
    result = msgspec.json.decode((ROOT / "docs" / "soak.json").read_bytes(), type=Soak)
    assert markdown(result) == (ROOT / "docs" / "soak.md").read_text(encoding="utf-8")
    assert (result.minutes, result.broken) == (30, [])


@pytest.mark.alone
@needs("haproxy", "redis-server")
def test_the_shared_store_is_lost_and_comes_back(workshop: Workshop):
    """Killed under load with three replicas: every prediction is answered, every truth joined, each once."""
    seen = observe(FAULTS["store-killed"], workshop.bundle, workshop.stream)
    assert seen.broken == []
    assert seen.counts.acknowledged > 3000

"""The report in a log, and back."""

import json

import pytest

from streamsim.errors import ReportError
from streamsim.stress_document import MARK, found, outcome_of, printed
from streamsim.stress_report import as_html, as_json
from streamsim.tally import Tally
from tests.streamsim.test_stress_report import filled
from tests.streamsim.test_stress_report import outcome_of as made


@pytest.mark.parametrize("tally", [filled(), filled(0.08, errors=3), Tally()])
def test_what_was_printed_makes_the_same_report(tally: Tally):
    """Numbers, distributions and page: nothing is lost on the way through a log."""
    outcome = made(tally, note="the generator was late")
    first, *rest = printed(as_json(outcome)).splitlines()
    log = "\n".join(["some lines", "before it", first, "streamsim: said to stderr meanwhile", *rest, "and after"])
    document = found(log)
    assert document is not None
    again = outcome_of(document)
    assert json.dumps(as_json(again)) == json.dumps(as_json(outcome))
    assert as_html(again) == as_html(outcome)


def test_no_line_is_cut_on_its_way():
    """Container runtimes cut lines at 16 KiB."""
    tally = filled()
    for number in range(200_000):
        tally.from_planned.record(1e-5 * 1.0001**number)
    assert max(map(len, printed(as_json(made(tally))).splitlines())) < 16_000


def test_a_log_without_a_whole_report_has_none():
    """The pod was killed before, or while, it printed."""
    whole = printed(as_json(made(filled())))
    assert found("") is found("Killed\n") is found(whole[: len(whole) // 2]) is None


@pytest.mark.parametrize("wrong", ["[1]", "{", '{"exit_code": 0}'])
def test_what_is_no_report_is_one_line(wrong: str):
    """Another version, or something else between the marks."""
    with pytest.raises(ReportError, match="report"):
        outcome_of(found(printed({}).replace("{}", wrong)) or {})
    assert printed({}).startswith(MARK)

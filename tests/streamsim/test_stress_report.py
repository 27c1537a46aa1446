"""The verdict of a load test and its report, from numbers alone."""

import json
import random
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from streamsim.answers import Cause
from streamsim.charts import Axis, Line, chart, nice_step
from streamsim.compare import parse
from streamsim.latency import Latency
from streamsim.service_view import Fact, Look, service_view
from streamsim.stress import LAG_LIMIT_MS, Thresholds, generator_note, judge_stress
from streamsim.stress_report import Outcome, as_html, as_json, measured
from streamsim.summary import Summary, Verdict
from streamsim.tally import Tally
from streamsim.timeline import Timeline, quantile
from tests.streamsim.test_docs import PAGE, options

THRESHOLDS = Thresholds(p99_ms=50, error_percent=0.1)
VOID = {"meta"}


def filled(latency: float = 0.01, *, errors: int = 0, lag: float = 0.001) -> Tally:
    """A tally of 1,000 arrivals over ten seconds, some of them failed, everything else delivered."""
    tally = Tally(planned=1000, timeline=Timeline())
    tally.causes.update({Cause.OK: 1000 - errors, Cause.HTTP_5XX: errors})
    tally.delivered["matched"] = 1000 - errors
    for number in range(1000):
        ok = number >= errors
        tally.schedule_lag.record(lag)
        if ok:
            tally.from_planned.record(latency)
            tally.from_sent.record(latency - lag)
        assert tally.timeline is not None
        tally.timeline.planned(number / 100, 3, sent=True)
        tally.timeline.sent(number / 100 + lag)
        tally.timeline.answered(number / 100, latency if ok else None, ok=ok)
    return tally


def summary_of(tally: Tally) -> Summary:
    """The summary of a run that went to its end."""
    totals = tally.totals(0)
    return Summary(0.0, 10.0, False, earlier=0, held=totals.owed, totals=totals, timings=tally.timings())


def outcome_of(tally: Tally, note: str = "") -> Outcome:
    """A whole outcome, with texts that HTML has to escape."""
    summary = summary_of(tally)
    view = [Fact("/predict answered 200", 1000, ""), Fact("CPU <seconds> used", 1.5, "s")]
    settings = {"rps": "100", "url": "http://127.0.0.1:8000/?<script>"}
    return Outcome(summary, measured(tally), judge_stress(summary, THRESHOLDS), view, settings, note)


@pytest.mark.parametrize(
    ("tally", "code", "said"),
    [
        (filled(), 0, []),
        (filled(0.08), 99, ["p99"]),
        (filled(errors=2), 99, ["0.2 % errors"]),
        (filled(0.08, errors=2), 99, ["p99", "errors"]),
        (filled(errors=1000), 1, ["not one prediction"]),
        (Tally(), 1, ["not one prediction"]),
    ],
)
def test_thresholds_decide_the_exit_code_and_say_which(tally: Tally, code: int, said: Sequence[str]):
    """0 met, 99 with each threshold that was missed, 1 where nothing could be measured."""
    verdict = judge_stress(summary_of(tally), THRESHOLDS)
    assert verdict.exit_code == code
    assert all(each in verdict.reason for each in said)
    assert bool(verdict.reason) == bool(said)


def test_truths_that_stay_owed_are_a_miss():
    """A service that answers predictions and loses truths has not kept up."""
    tally = filled()
    tally.delivered["matched"] -= 5
    assert judge_stress(summary_of(tally), THRESHOLDS) == Verdict(
        99, "missed: 5 truths could not be delivered within the grace time"
    )
    tally.given_up[Cause.REFUSED] += 3
    assert judge_stress(summary_of(tally), THRESHOLDS) == Verdict(
        99,
        "missed: 3 truths were given up: nothing had settled them in time; "
        "2 truths could not be delivered within the grace time",
    )


@pytest.mark.parametrize(("lag_ms", "bottleneck"), [(1, False), (LAG_LIMIT_MS - 1, False), (LAG_LIMIT_MS + 1, True)])
def test_a_generator_behind_its_schedule_is_named_instead_of_the_service(lag_ms: float, bottleneck: bool):
    """Above the stated lag at p99, and only then, the note says so and gives both numbers."""
    note = generator_note(summary_of(filled(lag=lag_ms / 1000)))
    assert ("generator itself was the bottleneck" in note) == bottleneck
    assert (f"limit {LAG_LIMIT_MS:g} ms" in note) == bottleneck
    assert generator_note(summary_of(Tally())) == ""


class Page(HTMLParser):
    """Reads a page, and notes what is open, what it refers to and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it, and every attribute that a browser would follow."""
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "srcset"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it; nothing stays open."""
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened last, and nothing else."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Gather the text."""
        self.text += data


@pytest.mark.parametrize("tally", [filled(), filled(errors=1000), Tally()])
def test_the_page_is_well_formed_and_needs_nothing_else(tally: Tally):
    """Every tag is closed in order, nothing is fetched, nothing runs; also where nothing was measured."""
    page, text = Page(), as_html(outcome_of(tally, note="the generator was late"))
    page.feed(text)
    assert page.open == []
    assert page.references == []
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|NaN|\binf\b", text)
    assert page.tags.count("svg") == 5
    for said in ("The generator was late", "The service's own view", "CPU <seconds> used", "99.9 %"):
        assert said in page.text


def test_the_page_names_the_verdict():
    """The headline is the exit code in words."""
    assert "Thresholds met" in as_html(outcome_of(filled()))
    assert "Threshold missed" in as_html(outcome_of(filled(0.08)))
    assert "Could not run" in as_html(outcome_of(Tally()))


def test_the_json_holds_both_distributions_and_the_timeline():
    """Percentiles, the histograms in their own encoding, ten seconds of a hundred arrivals, the service's facts."""
    document = json.loads(json.dumps(as_json(outcome_of(filled(errors=3)))))
    assert document["exit_code"] == 99
    assert document["percentiles"]["from_planned"]["99"] == pytest.approx(10, rel=1e-3)
    assert document["percentiles"]["from_sent"]["99"] == pytest.approx(9, rel=1e-3)
    assert HdrHistogram.decode(document["hdrhistogram"]["from_planned"]).get_total_count() == 997
    assert [second["planned"] for second in document["timeline"][:10]] == [100] * 10
    assert document["timeline"][0]["errors"] == 3
    assert document["service"]["CPU <seconds> used"] == {"value": 1.5, "unit": "s"}
    assert document["generator_bottleneck"] is None


METRICS = """\
http_server_request_duration_seconds_count{{http_route="/predict",http_response_status_code="200"}} {ok}
http_server_request_duration_seconds_sum{{http_route="/predict",http_response_status_code="200"}} {seconds}
http_server_request_duration_seconds_count{{http_route="/predict",http_response_status_code="503"}} {shed}
http_server_request_duration_seconds_sum{{http_route="/predict",http_response_status_code="503"}} 0
calsvc_predictions_total{{role="champion"}} {ok}
calsvc_predictions_total{{role="challenger"}} {ok}
process_cpu_seconds_total {cpu}
process_resident_memory_bytes {memory}
"""


def test_the_services_view_is_what_has_changed():
    """Requests by status, mean duration, champion's predictions, CPU and memory between two looks."""
    before = METRICS.format(ok=100, seconds=1, shed=0, cpu=10, memory=50 * 2**20)
    after = METRICS.format(ok=300, seconds=2, shed=50, cpu=15, memory=60 * 2**20)
    facts = {each.name: each.value for each in service_view(Look(0, parse(before)), Look(20, parse(after)))}
    assert facts == pytest.approx(
        {
            "/predict answered 200": 200,
            "/predict answered 503": 50,
            "/predict mean duration": 4,
            "predictions": 200,
            "CPU seconds used": 5,
            "CPU, share of one core": 25,
            "resident memory at the end": 60,
            "resident memory, change": 10,
        }
    )


def test_metrics_that_are_missing_are_absent():
    """A service without metrics has no facts; one that has begun anew counts from 0."""
    assert service_view(Look(0, {}), Look(1, {})) == []
    view = service_view(
        Look(0, parse("process_cpu_seconds_total 9\n")), Look(4, parse("process_cpu_seconds_total 2\n"))
    )
    assert [each.value for each in view] == [2, 50]


@given(values=st.lists(st.floats(0.001, 100), min_size=1, max_size=200))
def test_a_curve_ascends_to_the_largest_value(values: list[float]):
    """Percentiles and latencies both rise, and end at 100 % with the maximum."""
    latency = Latency()
    for value in values:
        latency.record(value)
    curve = latency.curve()
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx((100, max(values) * 1000), rel=2e-3)


@given(st.lists(st.integers(0, 100), min_size=1), st.floats(0, 1))
def test_a_quantile_is_the_smallest_value_that_covers_its_share(values: list[int], share: float):
    """At least the share lies at or below it, and less than the share below it."""
    found = quantile(sorted(values), share)
    assert found is not None
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) <= share * len(values) + 1e-9


@given(st.floats(1e-6, 1e12))
def test_axis_steps_are_round_and_few(highest: float):
    """Four to ten steps reach the top, each 1, 2 or 5 times a power of ten."""
    step = nice_step(highest)
    assert f"{step:e}"[0] in "125"
    assert 1.5 < highest / step <= 4 + 1e-6


def test_a_gap_in_a_line_is_not_bridged():
    """A second without answers splits the path; a lone point between gaps is drawn as a dot."""
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 2.0), (4.0, None)]
    drawn = re.search(
        r'<path class="a" d="([^"]*)"', chart([Line("x", "a", points)], Axis(title="s"), Axis(title="ms"))
    )
    assert drawn is not None
    assert [letter for letter in drawn[1] if letter.isalpha()] == ["M", "h", "L", "M", "h"]


def test_the_timeline_counts_by_planned_second():
    """An answer that takes seconds belongs to the second it was planned for; what was not sent is an error there."""
    timeline, latencies = Timeline(), [random.Random(0).uniform(0.1, 3) for _ in range(100)]
    for latency in latencies:
        timeline.planned(0.5, 7, sent=True)
        timeline.sent(1.2)
        timeline.answered(0.5, latency, ok=True)
    timeline.planned(2.5, 9, sent=False)
    first, second, third = timeline.seconds()
    assert (first.planned, first.sent, first.errors, first.in_flight) == (100, 0, 0, 7)
    assert first.p99 == pytest.approx(sorted(latencies)[98] * 1000, rel=1e-6)
    assert (second.planned, second.sent, second.p99) == (0, 100, None)
    assert (third.planned, third.errors, third.in_flight) == (1, 1, 9)


def test_every_option_of_stress_is_in_its_table_with_its_default():
    """One row an option, in the section of this command."""
    section = PAGE.partition("\n## Stress\n")[2].partition("\n## ")[0]
    for action in options("stress"):
        name = action.option_strings[0] if action.option_strings else "RPS"
        default = "" if action.default is None or action.default is False else f"`{action.default}`".replace(".0`", "`")
        rows = [line for line in section.splitlines() if re.match(rf"\| `{name}[ `]", line)]
        assert [row.split("|")[2].strip() for row in rows] == [default], name


def test_labels_of_an_axis_are_never_written_over_each_other():
    """Ticks that fall together at the edge of a short run leave room for one of them."""
    ticks = [(0.0, "0"), (50.0, "50"), (99.0, "99"), (100.0, "100")]
    drawn = chart([Line("x", "a", [(0.0, 1.0), (100.0, 2.0)])], Axis(title="s", ticks=ticks), Axis(title="ms"))
    labels = re.findall(r'<text x="([^"]+)" y="171"[^>]*>([^<]+)</text>', drawn)
    assert [text for _, text in labels] == ["0", "50", "99"]

"""The offline numbers, against arithmetic that anyone can follow; and the comparison with the service's own."""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsim.compare import Line, compare, parse
from streamsim.owed import Owed
from streamsim.record import open_record
from streamsim.report import SCHEMA, Report, compute, read_record

kcal = st.floats(0, 1e4)
stories = st.lists(
    st.tuples(
        kcal, kcal, st.floats(0, 1e4), st.lists(st.sampled_from(["matched", "duplicate", "conflict"]), max_size=2)
    ),
    max_size=30,
)


def frame(lines: list[dict[str, Any]]) -> pl.DataFrame:
    """A record without the file."""
    return pl.DataFrame(lines, schema=SCHEMA)


@given(stories)
def test_the_report_is_what_a_loop_computes(told: list[tuple[float, float, float, list[str]]]):
    """Each prediction counts once, in the errors when it was joined, in coverage always."""
    lines, log_errors, errors, lags = list[dict[str, Any]](), list[float](), list[float](), list[float]()
    for number, (predicted, truth, lag, statuses) in enumerate(told):
        known = {"id": str(number), "predicted": predicted, "truth": truth, "predicted_at": 0.0}
        lines.append({**known, "event": "prediction", "answered_at": None, "status": "acknowledged"})
        lines += [{**known, "event": "feedback", "answered_at": lag, "status": status} for status in statuses]
        if {"matched", "duplicate"} & set(statuses):
            log_errors.append((math.log1p(predicted) - math.log1p(truth)) ** 2)
            errors.append(abs(predicted - truth))
            lags.append(lag)
    report = compute(frame(lines))
    assert (report.acknowledged, report.joined) == (len(told), len(errors))
    assert report.coverage == (len(errors) / len(told) if told else None)
    if not errors:
        assert (report.rmsle, report.mae, report.lag_mean, report.lag_max) == (None,) * 4
        return
    assert report.rmsle == pytest.approx(math.sqrt(sum(log_errors) / len(errors)), abs=1e-9)
    assert report.mae == pytest.approx(sum(errors) / len(errors))
    assert report.lag_mean == pytest.approx(sum(lags) / len(lags))
    assert report.lag_max == max(lags)


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path):
    """Numbers keep every digit, number and text ids live side by side, and a resumed run continues the file."""
    path = tmp_path / "new" / "record.ndjson"
    first = Owed(1, "7", 50.0, 49.123456789012345, 1000.0, 1300.0, 0)
    second = Owed(2, '"7.1"', 0.1 + 0.2, None, 1000.5, 1300.0, 0)
    with open_record(path, append=False) as recorder:
        recorder.prediction(first)
    with open_record(path, append=True) as recorder:
        recorder.feedback(first, "matched", 1301.0)
        recorder.feedback(second, "unknown", 1302.0)
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [7, 7, "7.1"]
    record = read_record(path)
    assert record["id"].to_list() == ["7", "7", "7.1"]
    assert record["predicted"].to_list() == [49.123456789012345, 49.123456789012345, None]
    assert record["truth"].to_list() == [50.0, 50.0, 0.1 + 0.2]
    assert compute(record)._replace(rmsle=0, mae=0) == Report(
        1, 1, {"matched": 1, "unknown": 1}, 0, 0, 1.0, 301.0, 301.0, 301.0
    )


def test_an_empty_record_has_no_numbers(tmp_path: Path):
    """No data is no number, never 0."""
    path = tmp_path / "record.ndjson"
    with open_record(path, append=False):
        pass
    assert compute(read_record(path)) == Report(0, 0, {}, None, None, None, None, None, None)


OFFLINE = Report(4, 2, {"matched": 2}, 0.5, 10.0, 0.5, 5.01, 5.0, 5.1)
COUNTERS = """
# TYPE calsvc_predictions_total counter
calsvc_predictions_total{model_version="1",role="champion"} 4
calsvc_predictions_total{model_version="1",role="challenger"} 99
# TYPE calsvc_quality_matched_total counter
calsvc_quality_matched_total{model_version="1",role="champion"} 2
calsvc_quality_squared_log_error_total{model_version="1",role="champion"} 0.5
calsvc_quality_absolute_error_kcal_total{model_version="1",role="champion"} 20
calsvc_feedback_lag_seconds_sum 10.0
calsvc_feedback_lag_seconds_count 2
"""
GAUGES = """
calsvc_quality_rmsle{model_version="1",role="champion"} 0.5
calsvc_quality_mae_kcal{model_version="1",role="champion"} 10
calsvc_feedback_coverage_ratio{basis="window"} 0.5
calsvc_feedback_coverage_ratio{basis="matured"} 0.5
"""


def test_a_service_that_says_the_same_agrees():
    """Counters and gauges of the champion, each beside its offline number."""
    lines = compare(parse(""), parse(COUNTERS + GAUGES), OFFLINE)
    assert [line.name for line in lines if not line.agrees] == []
    assert len(lines) == 9


def test_predictions_that_were_replaced_are_no_records():
    """A record that was sent again, since its answer was lost, was answered twice and is one record."""
    twice = COUNTERS.replace('champion"} 4', 'champion"} 7') + "calsvc_predictions_replaced_total 3\n"
    (predictions, *_) = compare(parse(""), parse(twice + GAUGES), OFFLINE)
    assert (predictions.service, predictions.agrees) == (4, True)


def test_a_service_that_ran_before_is_compared_by_what_it_added():
    """Counters count from the run's start, and the gauges, which look back further, are left out."""
    lines = compare(parse(COUNTERS), parse(COUNTERS.replace(" 2\n", " 4\n")), OFFLINE)
    numbers = {line.name: line.service for line in lines}
    assert numbers == {
        "predictions": 0,
        "matched": 2,
        "RMSLE, from counters": 0,
        "MAE kcal, from counters": 0,
        "feedback lag mean s": 0,
    }


def test_a_number_that_is_absent_or_off_does_not_agree():
    """A missing gauge is a disagreement, and so is an error measure off by more than 1e-6."""
    lines = compare(parse(""), parse(COUNTERS), OFFLINE._replace(rmsle=0.5 + 2e-6, acknowledged=5))
    assert [line.name for line in lines if not line.agrees] == [
        "predictions",
        "RMSLE, from counters",
        "RMSLE, last 5 minutes",
        "MAE kcal, last 5 minutes",
        "coverage, window",
        "coverage, matured",
    ]
    assert Line("x", 1.0, 1.0 + 5e-7, 1e-6).agrees


@pytest.mark.parametrize("left", [1, 9, 20, 120])
def test_a_record_that_a_full_disk_has_cut_off_goes_on_with_whole_lines(tmp_path: Path, left: int):
    """The begin of a line is removed before anything is appended; another file's last line is not."""
    path, owed = tmp_path / "record.ndjson", Owed(1, '"a.1"', 50.0, 49.5, 1.0, 2.0, 0)
    with open_record(path, append=False) as recorder:
        recorder.prediction(owed)
        whole = path.read_bytes()
    path.write_bytes(whole + whole[:left])
    with open_record(path, append=True) as recorder:
        recorder.feedback(owed, "matched", 3.0)
    assert path.read_bytes().startswith(whole)
    assert compute(read_record(path)).coverage == 1.0
    other = tmp_path / "notes.txt"
    other.write_text("no line feed")
    with open_record(other, append=True):
        pass
    assert other.read_text() == "no line feed"

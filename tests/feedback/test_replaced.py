"""A record that is predicted again before its label is one record: coverage counts it once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.feedback.stores import file_of
from tests.needs import needs
from tests.test_app import Service, running

DELAY = 1.0
"""Seconds after which a label is due."""
REPLACED = ("calsvc_predictions_replaced_total",)


@contextmanager
def serving(bundle: Path, address: str, held: Path) -> Iterator[Service]:
    """A service with a store of its own kind, whose labels are due after a second."""
    runs = running(bundle, store=address, store_held=held, feedback_delay=DELAY, quality_window=60)
    yield next(runs)
    assert next(runs, None) is None


@pytest.fixture
def service(bundle: Path, address: str, tmp_path: Path) -> Iterator[Service]:
    """Such a service with each kind of store."""
    with serving(bundle, address, tmp_path / "held") as started:
        yield started


def covered(service: Service) -> tuple[float | None, float | None, float]:
    """Coverage on both bases, once all labels are due, and the predictions that were replaced."""
    service.clock.now += DELAY + 2
    numbers = service.numbers()
    shares = (numbers.get(("calsvc_feedback_coverage_ratio", basis)) for basis in ("window", "matured"))
    return *shares, numbers[REPLACED]


def predict(service: Service, *ids: int | str) -> None:
    """Predict each record, at moments that differ."""
    for record_id in ids:
        assert service.predict(id=record_id).status_code == 200
        service.clock.now += 0.001


def learn(service: Service, *ids: int | str) -> list[int]:
    """Send a label of each record; the statuses of the answers."""
    return [service.feedback(record_id, 77.0).status_code for record_id in ids]


def test_no_prediction_was_replaced_at_the_start(service: Service):
    """The counter stands at 0, so that the first one is seen."""
    assert service.numbers()[REPLACED] == 0


@pytest.mark.parametrize("times", [1, 2, 3])
def test_records_that_are_predicted_again_count_once(service: Service, times: int):
    """Each once, twice, three times, then every label: all of them are covered."""
    ids = (*range(25), *(f"text {number}" for number in range(25)))
    for _ in range(times):
        predict(service, *ids)
        service.clock.now += 1.5
    assert learn(service, *ids) == [200] * 50
    assert covered(service) == (1.0, 1.0, 50 * (times - 1))
    assert service.numbers()["calsvc_predictions_total", "champion"] == 50 * times


def test_a_record_that_has_its_label_is_another_one_when_it_is_predicted_again(service: Service):
    """An id that is used again after its label: two records, of which none was replaced."""
    predict(service, 1)
    assert learn(service, 1) == [200]
    predict(service, 1)
    assert covered(service) == (0.5, 0.5, 0)
    assert learn(service, 1, 1) == [200, 200]
    assert covered(service) == (1.0, 1.0, 0)


def test_feedback_of_every_outcome_counts_a_record_once(service: Service):
    """Early, in time, twice and corrected: unknown, matched, duplicate and conflict, and all records are covered."""
    assert learn(service, 1) == [404]
    predict(service, 1, 1, 2, 1)
    assert learn(service, 1, 2, 1) == [200] * 3
    assert service.feedback(1, 78.0).status_code == 409
    assert covered(service) == (1.0, 1.0, 2)


def test_a_number_and_its_text_are_two_records(service: Service):
    """Neither replaces the other."""
    predict(service, 1, "1")
    assert learn(service, 1) == [200]
    assert covered(service) == (0.5, 0.5, 0)


def test_a_record_whose_first_prediction_left_the_window_counts_when_it_was_predicted_last(service: Service):
    """Its earlier prediction is not taken from what others have made meanwhile."""
    predict(service, 1)
    service.clock.now += 70
    predict(service, 1, 2)
    assert learn(service, 1) == [200]
    assert covered(service) == (0.5, 0.5, 1)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs("redis-server"))])
def test_a_record_may_be_predicted_again_by_the_next_process(
    bundle: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
):
    """What a process replaces of one before it leaves no record uncounted: each has its label."""
    address = file_of(tmp_path) if kind == "sqlite" else request.getfixturevalue("redis_server").url
    ids = range(10)
    with serving(bundle, address, tmp_path / "held") as before:
        predict(before, *ids)
    time.sleep(1.1)  # Redis has a clock of its own
    with serving(bundle, address, tmp_path / "held") as after:
        after.clock.now = before.clock.now + 1.1
        predict(after, *ids)
        assert learn(after, *ids) == [200] * 10
        assert covered(after) == (1.0, 1.0, 10)


@needs("redis-server")
def test_replicas_count_a_record_once_in_their_sum(bundle: Path, tmp_path: Path, request: pytest.FixtureRequest):
    """Each replica answers each record: what was predicted less what was replaced is the number of records."""
    url = request.getfixturevalue("redis_server").url
    with serving(bundle, url, tmp_path / "one") as one, serving(bundle, url, tmp_path / "two") as two:
        predict(one, *range(10))
        predict(two, *range(10))
        predict(one, *range(5))
        assert learn(two, *range(10)) == [200] * 10
        counts = [each.numbers() for each in (one, two)]
        answered = sum(each["calsvc_predictions_total", "champion"] for each in counts)
        assert answered - sum(each[REPLACED] for each in counts) == 10
        assert sum(each["calsvc_quality_matched_total", "champion"] for each in counts) == 10

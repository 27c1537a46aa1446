"""Evidence from a running service: its text of metrics, read over HTTP."""

from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from calsvc.http.errors import PromotionRefused, RegistryError
from calsvc.training.live import Sample, paired_sums, read_metrics
from tests.service_process import free_port

METRICS = """
# TYPE calsvc_quality_matched_total counter
calsvc_quality_matched_total{model_version="old",role="champion"} 900
calsvc_quality_matched_total{model_version="older",role="champion"} 70
calsvc_quality_matched_total{model_version="new",role="challenger"} 410
# TYPE calsvc_quality_paired_total counter
calsvc_quality_paired_total{champion_version="old",challenger_version="new"} 400
calsvc_quality_paired_total{champion_version="older",challenger_version="new"} 10
# TYPE calsvc_quality_paired_squared_log_error_total counter
calsvc_quality_paired_squared_log_error_total{champion_version="old",challenger_version="new",role="champion"} 4
calsvc_quality_paired_squared_log_error_total{champion_version="old",challenger_version="new",role="challenger"} 3
calsvc_quality_paired_squared_log_error_total{champion_version="older",challenger_version="new",role="champion"} 99
# TYPE calsvc_quality_paired_squared_difference_total counter
calsvc_quality_paired_squared_difference_total{champion_version="old",challenger_version="new"} 0.5
"""


def samples(text: str = METRICS) -> list[Sample]:
    """The lines of a text of metrics."""
    return [Sample(*each[:3]) for family in text_string_to_metric_families(text) for each in family.samples]


def test_the_sums_are_those_of_exactly_this_pair() -> None:
    """What other versions have earned does not count."""
    assert paired_sums(samples(), "old", "new", 400) == (400, 4.0, 3.0, 0.5)


@pytest.mark.parametrize(
    ("pair", "fewest", "told"),
    [
        (("old", "new"), 401, "900 truths for the champion, 410 for the challenger, 400 for both: at least 401"),
        (("old", "newer"), 30, "the registry's challenger is newer; the service has truth for: new"),
        (("gone", "new"), 30, "the registry's champion is gone; the service has truth for: old, older"),
    ],
)
def test_what_is_not_enough_is_refused(pair: tuple[str, str], fewest: int, told: str) -> None:
    """Too few truths, or a service that runs something else than the registry says."""
    with pytest.raises(PromotionRefused, match=told):
        paired_sums(samples(), *pair, fewest)


def test_a_service_without_any_truth_is_refused() -> None:
    """No data is no series."""
    with pytest.raises(PromotionRefused, match="the service has truth for: none"):
        paired_sums([], "old", "new", 30)


def test_metrics_are_read_over_http(serve_metrics: Callable[[bytes], str]) -> None:
    """From /metrics below the address, with or without a slash at its end."""
    url = serve_metrics(METRICS.encode())
    assert read_metrics(url) == read_metrics(f"{url}/") == samples()


@pytest.mark.parametrize("garbage", [b"<html>hello</html>", b"\xff\xfe", b'x{y="'])
def test_what_is_no_metrics_is_an_error(serve_metrics: Callable[[bytes], str], garbage: bytes) -> None:
    """Something else listens there."""
    url = serve_metrics(garbage)
    with pytest.raises(RegistryError, match=f"no metrics at {url}/metrics"):
        read_metrics(url)


def test_nobody_there_is_an_error() -> None:
    """One line that asks whether the service is running."""
    with pytest.raises(RegistryError, match="is the service running there"):
        read_metrics(f"http://127.0.0.1:{free_port()}")

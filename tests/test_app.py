"""The interface as a client meets it: answers, errors, and what each of them counts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from calsvc.app import create_app
from calsvc.http.errors import CalsvcError
from calsvc.http.problems import PROBLEMS
from calsvc.lifecycle import Lifecycle
from calsvc.registry.loading import open_model_source
from calsvc.service import create_service
from calsvc.settings import Settings
from observability.telemetry import Telemetry
from tests.clock import Clock
from tests.http.test_schema import WORKOUT, workout

JSON = {"Content-Type": "application/json"}


class Service:
    """A running application with its clock and its lifecycle in the test's hands."""

    def __init__(self, bundle: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.lifecycle = Lifecycle()
        self.telemetry = Telemetry({"service.name": "test"})
        described = Settings(**{"model": bundle, "store": "memory://", **settings})
        self.state = create_service(described, self.telemetry, self.lifecycle, self.clock)
        self.source = open_model_source(self.state)
        self.client = TestClient(create_app(self.state, self.source).first, raise_server_exceptions=False)

    def predict(self, body: bytes | None = None, **changes: Any) -> Any:
        """POST /predict."""
        return self.client.post("/predict", content=workout(**changes) if body is None else body, headers=JSON)

    def feedback(self, record_id: int | str, kcal: float, **more: Any) -> Any:
        """POST /feedback."""
        return self.client.post("/feedback", json={"id": record_id, "Calories": kcal, **more})

    def numbers(self) -> dict[tuple[str, ...], float]:
        """All calsvc_ samples of a scrape, by name and label values, buckets left out."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return {
            (
                sample.name,
                *(value for key, value in sorted(sample.labels.items()) if key != "model_version"),
            ): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith("calsvc_") and "le" not in sample.labels and "loop" not in sample.name
        }


def running(bundle: Path, **settings: Any) -> Iterator[Service]:
    """A service that has loaded its model."""
    service = Service(bundle, **settings)
    with service.client as client:
        assert client.portal is not None
        client.portal.call(service.lifecycle.wait_ready)
        yield service
    service.telemetry.shutdown()


@pytest.fixture
def service(bundle: Path) -> Iterator[Service]:
    """A service with the default settings."""
    yield from running(bundle)


def test_a_prediction_is_that_of_the_handout(service: Service, handout_predictions: dict[int, tuple[dict, float]]):
    """Every row gets what the handout's own predict says of it, and its id back."""
    for record_id, (row, kcal) in handout_predictions.items():
        answer = service.client.post("/predict", json=row).json()
        assert answer == {"id": record_id, "Calories": pytest.approx(kcal, rel=1e-4)}


@pytest.mark.parametrize("record_id", [2**63 - 1, -(2**63), "473995", "ü"])
def test_an_id_comes_back_as_it_was_sent(service: Service, record_id: int | str):
    """Integers stay integers, text stays text."""
    assert service.predict(id=record_id).json()["id"] == record_id


def test_an_answer_names_its_model(service: Service):
    """The header X-Model-Version is the version that /info tells."""
    version = service.client.get("/info").json()["model"]["version"]
    assert service.predict().headers["X-Model-Version"] == version


BAD_BODIES = {
    "not JSON": (b"Age=40", 400, None),
    "empty": (b"", 400, None),
    "NaN": (workout().replace(b"172", b"NaN"), 400, None),
    "Infinity": (workout().replace(b"172", b"Infinity"), 400, None),
    "invalid UTF-8": (workout(id="~").replace(b"~", b"\xff"), 400, None),
    "an array": (b"[" + workout() + b"]", 422, "$"),
    "1e400": (workout().replace(b"172", b"1e400"), 422, "$.Height"),
    "number as text": (workout(Age="40"), 422, "$.Age"),
    "missing field": (workout(Weight=None), 422, "$.Weight"),
    "Height 0": (workout(Height=0), 422, "$.Height"),
    "Age 220": (workout(Age=220), 422, "$.Age"),
    "id 2**63": (workout(id=2**63), 422, "$.id"),
    "empty id": (workout(id=""), 422, "$.id"),
    "100 characters of id": (workout(id="x" * 100), 422, "$.id"),
    "Sex and Gender disagree": (workout(Gender="male"), 422, "$.Gender"),
    "1 MiB": (workout(note="x" * 2**20), 413, None),
    "just over the limit": (workout(note="x" * (64 * 1024 - len(workout(note="")) + 1)), 413, None),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_bad_input_is_a_problem_that_names_the_field_and_counts_nothing(service: Service, case: str):
    """Each kind of bad input has its status; no counter of predictions moves."""
    body, status, field = BAD_BODIES[case]
    before = service.numbers()
    answer = service.predict(body)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem.get("field") == field
    assert {"type", "title", "detail"} <= set(problem)
    assert service.numbers() == before


def test_a_body_just_within_the_limit_is_read(service: Service):
    """64 KiB are fine."""
    body = workout(note="x" * (64 * 1024 - len(workout(note=""))))
    assert len(body) == 64 * 1024
    assert service.predict(body).status_code == 200


def test_a_body_without_a_length_is_limited_too(service: Service):
    """A chunked body is cut off as soon as it is too long."""
    chunks = (b"x" * 1024 for _ in range(2**10))
    assert service.client.post("/predict", content=chunks, headers=JSON).status_code == 413


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "text/json", "", None])
@pytest.mark.parametrize("path", ["/predict", "/feedback"])
def test_another_media_type_is_refused(service: Service, path: str, media_type: str | None):
    """Only what says it is JSON is read."""
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = service.client.post(path, content=workout(), headers=headers)
    assert (answer.status_code, answer.json()["title"]) == (415, "The body is not declared as JSON")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_declared_with_parameters_and_in_any_case(service: Service, media_type: str):
    """The media type is compared as RFC 9110 says."""
    answer = service.client.post("/predict", content=workout(), headers={"Content-Type": media_type})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/no/such/path", "/static/", "/predict/", "//predict", "/predict%00"])
def test_an_unknown_path_is_a_problem(service: Service, path: str):
    """404 has the form of every other error, is no redirect, and makes up no label."""
    answer = service.client.get(f"http://testserver{path}", follow_redirects=False)
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "no/such" not in service.client.get("/metrics").text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/predict", "POST"), ("DELETE", "/feedback", "POST"), ("POST", "/info", "GET")],
)
def test_a_wrong_method_is_a_problem_that_names_the_right_one(service: Service, method: str, path: str, allowed: str):
    """405 carries Allow."""
    answer = service.client.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (405, 405)
    assert allowed in answer.headers["Allow"]


def test_an_invented_method_makes_up_no_label(service: Service):
    """Whatever a client calls its method, the label is one of a fixed set."""
    service.client.request("BREW", "/predict")
    text = service.client.get("/metrics").text
    assert "BREW" not in text
    assert 'http_request_method="_OTHER"' in text


def test_the_truth_is_joined_once(service: Service):
    """matched, duplicate, conflict, unknown: each has its answer and its count, and only the first is charged."""
    kcal = service.predict(id=1).json()["Calories"]
    assert service.feedback(1, 100.0).json() == {"id": 1, "status": "matched"}
    assert service.feedback(1, 100.0).json() == {"id": 1, "status": "duplicate"}
    assert service.feedback(1, 101.0).status_code == 409
    assert service.feedback(2, 100.0).status_code == 404
    numbers = service.numbers()
    outcomes = {labels[1]: value for labels, value in numbers.items() if labels[0] == "calsvc_feedback_total"}
    assert outcomes == {"matched": 1, "duplicate": 1, "conflict": 1, "unknown": 1}
    assert numbers["calsvc_quality_matched_total", "champion"] == 1
    assert numbers["calsvc_quality_absolute_error_kcal_total", "champion"] == pytest.approx(abs(kcal - 100))


@pytest.mark.parametrize("ts", [0, -1e9, 4e12])
def test_a_senders_clock_that_is_wrong_changes_nothing(service: Service, ts: float):
    """Lag and window follow the service's own clock, whatever `ts` says."""
    service.predict(id=1)
    service.clock.now += 300
    service.feedback(1, 100.0, ts=ts)
    numbers = service.numbers()
    assert numbers["calsvc_feedback_lag_seconds_sum",] == 300
    assert numbers["calsvc_quality_window_samples", "champion"] == 1


@pytest.mark.parametrize(("age", "status"), [(299.999, 200), (300.0, 200), (3600.0, 200), (3600.001, 404)])
def test_feedback_is_taken_around_and_long_after_its_time(service: Service, age: float, status: int):
    """Just before and exactly at 300 s, up to the end of the retention, and not after it."""
    service.predict(id=1)
    service.clock.now += age
    assert service.feedback(1, 100.0).status_code == status


def test_without_data_there_is_no_series(service: Service):
    """A fresh service shows neither an error nor a coverage: 0 would read as perfect, or as lost."""
    names = {labels[0] for labels in service.numbers()}
    assert not names & {"calsvc_quality_rmsle", "calsvc_quality_mae_kcal", "calsvc_feedback_coverage_ratio"}
    assert service.numbers()["calsvc_pending_predictions",] == 0


def test_gauges_vanish_when_the_window_has_passed(service: Service):
    """Five minutes after the last label there is no RMSLE; the sums stay."""
    service.predict(id=1)
    service.feedback(1, 100.0)
    assert ("calsvc_quality_rmsle", "champion") in service.numbers()
    service.clock.now += 301
    numbers = service.numbers()
    assert ("calsvc_quality_rmsle", "champion") not in numbers
    assert numbers["calsvc_quality_matched_total", "champion"] == 1


def test_what_is_sent_is_counted(service: Service):
    """Predictions, their histogram, their mean and what is pending all say the same."""
    kcals = [service.predict(id=number).json()["Calories"] for number in range(3)]
    numbers = service.numbers()
    assert numbers["calsvc_predictions_total", "champion"] == 3
    assert numbers["calsvc_prediction_kcal_count",] == 3
    assert numbers["calsvc_prediction_kcal_sum",] == pytest.approx(sum(kcals))
    assert numbers["calsvc_prediction_rolling_mean_kcal",] == pytest.approx(sum(kcals) / 3)
    assert numbers["calsvc_pending_predictions",] == 3


def test_probes_follow_the_lifecycle(bundle: Path):
    """Ready, then draining: not ready any more, alive and still answering."""
    for service in running(bundle):
        paths = ("/healthz", "/livez", "/readyz")
        assert [service.client.get(path).status_code for path in paths] == [200, 200, 200]
        assert service.client.get("/healthz").json() == {"status": "ok"}
        service.lifecycle.drain(patient=True)
        assert [service.client.get(path).status_code for path in paths] == [200, 200, 503]
        assert service.predict().status_code == 200


def test_before_the_model_has_loaded_everything_says_so(tmp_path: Path):
    """Without a model: alive, not ready, and 503 with Retry-After for records."""
    service = Service(tmp_path / "no bundle")
    with service.client as client:
        assert client.portal is not None
        client.portal.call(service.lifecycle.wait_leaving)
        assert isinstance(service.lifecycle.failure, CalsvcError)
        for answer in (service.predict(), service.feedback(1, 1.0), client.get("/healthz"), client.get("/readyz")):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
        assert client.get("/info").json()["model"] is None
    service.telemetry.shutdown()


def test_metrics_are_shown_in_both_formats(service: Service):
    """OpenMetrics for those who ask for it, the plain text format for everybody else."""
    plain = service.client.get("/metrics")
    asked = service.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert asked.headers["Content-Type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")


def test_probes_and_scrapes_are_not_in_the_request_metrics(service: Service):
    """What machines ask every few seconds would drown what people ask."""
    service.predict()
    for path in ("/healthz", "/livez", "/readyz", "/metrics"):
        service.client.get(path)
    text = service.client.get("/metrics").text
    routes = {line.split('http_route="')[1].split('"')[0] for line in text.splitlines() if "http_route=" in line}
    assert routes == {"/predict", "/feedback"}


def test_info_tells_what_is_serving(service: Service):
    """Version, engine, features, parity, thread caps, libraries; nothing from the environment."""
    info = service.client.get("/info").json()
    assert info["model"]["engine"] == "onnx"
    assert info["model"]["feature_names"]
    assert info["model"]["parity"]["max_relative_difference"] <= 1e-4
    assert "valid_rmsle" in info["model"]["training_metrics"]
    assert {"OMP_NUM_THREADS", "cpus"} <= set(info["threads"])
    assert {"starlette", "onnxruntime"} <= set(info["libraries"])


def test_openapi_describes_every_route_and_every_error_of_predict(service: Service):
    """The document is 3.1 and knows the bounds that validation has."""
    document = service.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        *("/predict", "/feedback", "/healthz", "/livez", "/readyz", "/metrics", "/info", "/openapi.json")
    }
    assert {"200", "400", "413", "415", "422", "503"} <= set(document["paths"]["/predict"]["post"]["responses"])
    assert document["components"]["schemas"]["Workout"]["properties"]["Age"]["maximum"] == 120


def test_every_error_of_a_request_has_an_answer():
    """No domain error of the request path falls through to 500 by accident."""
    assert {kind.status for kind in PROBLEMS.values()} == {*(400, 401, 404, 409, 413, 415, 422, 500, 503)}
    assert len({kind.slug for kind in PROBLEMS.values()}) == len(PROBLEMS)


def test_the_worked_example_of_the_docs_answers(service: Service):
    """The record that README sends is a good one."""
    assert service.client.post("/predict", json=WORKOUT).status_code == 200
    assert json.loads(service.feedback(WORKOUT["id"], 145).text)["status"] == "matched"

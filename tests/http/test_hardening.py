"""What answers say to browsers, and what a client cannot make them say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from calsvc.http.middleware import SECURITY_HEADERS
from tests.http.test_schema import workout
from tests.test_app import JSON, Service, running


@pytest.fixture
def service(bundle: Path) -> Iterator[Service]:
    """A service with the default settings."""
    yield from running(bundle)


@pytest.mark.parametrize(
    "path", ["/predict", "/feedback", "/healthz", "/metrics", "/info", "/openapi.json", "/", "/nowhere"]
)
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_every_answer_has_every_header(service: Service, path: str, method: str):
    """Once; the page says of itself what it needs."""
    headers = service.client.request(method, path).headers
    for name in SECURITY_HEADERS:
        assert len(headers.get_list(name)) == 1, name


@pytest.mark.parametrize("body", [workout(), b"{", workout(Age=500)])
def test_the_calls_say_what_counts_for_them(service: Service, body: bytes):
    """Neither stored nor taken for something else."""
    headers = service.client.post("/predict", content=body, headers=JSON).headers
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert len(headers.get_list("Cache-Control")) == 1


def test_a_problem_repeats_a_bounded_part_of_what_was_sent(service: Service):
    """Path, media type and a sex that is none are cut; a name that is no field is not repeated at all."""
    long = "x" * 60_000
    answers = [
        service.client.get("/" + long[:8000]),
        service.client.post("/predict", content=workout(), headers={"Content-Type": long[:15000]}),
        service.predict(Sex=long, Gender=None),
        service.predict(Sex="male", Gender=long),
        service.predict(id=long),
        service.predict(**{long[:30_000]: {}}, Age=long[:30_000]),
        service.client.post("/feedback", json={"id": long[:30_000], "Calories": long[:30_000]}),
    ]
    assert [answer.status_code for answer in answers] == [404, 415, 422, 422, 422, 422, 422]
    assert max(len(answer.content) for answer in answers) < 1000


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, identity"])
def test_a_compressed_body_is_no_broken_json(service: Service, coding: str):
    """415 says what is to be changed."""
    answer = service.client.post("/predict", content=b"\x1f\x8b\x08\x00", headers=JSON | {"Content-Encoding": coding})
    assert (answer.status_code, "Content-Encoding" in answer.json()["detail"]) == (415, True)


ODD_BODIES = {
    "depth": (b"[" * 60_000, {400, 422}),
    "depth in a skipped field": (
        workout().replace(b"{", b'{"x": ' + b"[" * 30_000 + b"]" * 30_000 + b",", 1),
        {200, 400},
    ),
    "20000 digits": (workout().replace(b"172", b"1" * 20_000), {400, 422}),
    "20000 digits of an id": (workout(id=0).replace(b'"id": 0', b'"id": ' + b"9" * 20_000), {400, 422}),
    "20000 digits in a skipped field": (workout().replace(b"{", b'{"x": ' + b"9" * 20_000 + b",", 1), {200, 400}),
    "an exponent of 20000 digits": (workout().replace(b"172", b"1e" + b"9" * 20_000), {400, 422}),
    "BOM": (b"\xef\xbb\xbf" + workout(), {400}),
    "UTF-16": (workout().decode().encode("utf-16"), {400}),
    "a lone surrogate": (workout(id="~").replace(b"~", b"\\ud800"), {400}),
    "NUL in an id": (workout(id="a\0b"), {200}),
    "a float as id": (workout(id=1.5), {422}),
    "a whole float as id": (workout(id=0).replace(b'"id": 0', b'"id": 1.0'), {200, 422}),
    "an exponent as id": (workout(id=0).replace(b'"id": 0', b'"id": 1e3'), {200, 422}),
    "true as id": (workout(id=True), {422}),
    "an id twice": (workout().replace(b"{", b'{"id": 7,', 1), {200}),
    "minus zero as id": (workout(id=0).replace(b'"id": 0', b'"id": -0'), {200}),
    "two values": (workout() + workout(), {400}),
    "NUL behind": (workout() + b"\0", {400}),
}


@pytest.mark.parametrize("case", ODD_BODIES)
def test_an_odd_body_has_its_answer(service: Service, case: str):
    """Never a fault of the service, and an answer of a bounded length."""
    body, statuses = ODD_BODIES[case]
    answer = service.predict(body)
    assert answer.status_code in statuses
    assert len(answer.content) < 1000


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/openmetrics-text;version=1.x",
        "text/plain;version=\xb2",
        "application/openmetrics-text;version=" + "9" * 5000,
        ",".join(["a/b;q=0.1"] * 1500),
        ";;;,,,=;q=x",
        "\xff",
    ],
)
def test_no_accept_breaks_a_scrape(service: Service, accept: str):
    """Whatever a client would like."""
    assert service.client.get("/metrics", headers={"Accept": accept.encode("latin-1")}).status_code == 200


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage", "if-none-match", "x-forwarded-for", "cookie"])
@pytest.mark.parametrize("value", ["", "x" * 15_000, "00-" + "a" * 15_000, ",".join(["k=v"] * 3000), "\xff\x80"])
def test_no_header_breaks_a_call(service: Service, name: str, value: str):
    """Context that callers send along is understood, or left."""
    headers = [*JSON.items(), (name, value.encode("latin-1"))]
    assert service.client.post("/predict", content=workout(), headers=headers).status_code == 200
    assert service.client.get("/", headers=[(name, value.encode("latin-1"))]).status_code == 200

"""The standard OTEL_* variables, one by one, with a real service and a real collector."""

import json
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme
import yaml

from tests.conftest import Workshop
from tests.http.test_schema import WORKOUT
from tests.live.collector import INTERNAL, SERVER, Collector, Span, running_collector
from tests.needs import needs
from tests.service_process import PATIENCE, ServiceProcess, service_process

pytestmark = needs("collector")

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
W3C = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
ALL = {"OTEL_TRACES_SAMPLER": "always_on"}


def predict(service: ServiceProcess, headers: Mapping[str, str] = {}, query: str = "") -> None:
    """Ask for one prediction."""
    request = urllib.request.Request(  # noqa: S310 - always http://127.0.0.1
        f"{service.url}/predict{query}",
        json.dumps(WORKOUT).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        assert answer.status == 200


def arrived(collector: Collector, spans: int) -> list[Span]:
    """Wait for so many spans, and return all."""

    def there() -> list[Span] | None:
        found = collector.spans()
        return found if len(found) >= spans else None

    return collector.wait_for(f"{spans} spans", there)


def other_bundle(folder: Path) -> str:
    """A bundle of another CA."""
    trustme.CA().cert_pem.write_to_path(str(folder / "others.pem"))
    return str(folder / "others.pem")


def server_span(spans: list[Span]) -> Span:
    """The one span of a request."""
    (span,) = [each for each in spans if each.kind == SERVER]
    return span


# --- the way to the collector -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TIMEOUT": "5"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=b"},
    ],
    ids=str,
)
def test_spans_arrive(workshop: Workshop, tmp_path: Path, environ: dict[str, str]):
    """By HTTP with protobuf, compressed or not, and by gRPC."""
    with running_collector(tmp_path) as collector:
        endpoint = collector.grpc if "grpc" in environ.values() else collector.http
        senders = collector.senders | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{endpoint}"} | ALL
        with service_process(tmp_path, workshop.environ() | senders | environ) as service:
            predict(service)
            names = {span.name for span in arrived(collector, 2)}
    assert names == {"POST /predict", "score"}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_private_ca_and_a_clients_certificate(workshop: Workshop, tmp_path: Path, protocol: str):
    """The collector shows a certificate of a private CA and wants one of the same; without, nothing arrives."""
    ca = trustme.CA()
    server, client = ca.issue_cert("127.0.0.1"), ca.issue_cert("calsvc")
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "server", "server-key", "client", "client-key")}
    ca.cert_pem.write_to_path(files["ca"])
    for name, cert in (("server", server), ("client", client)):
        cert.cert_chain_pems[0].write_to_path(files[name])
        cert.private_key_pem.write_to_path(files[f"{name}-key"])
    tls = {"cert_file": files["server"], "key_file": files["server-key"], "client_ca_file": files["ca"]}
    config = tmp_path / "tls.yaml"
    config.write_text(
        yaml.safe_dump({"receivers": {"otlp": {"protocols": {"http": {"tls": tls}, "grpc": {"tls": tls}}}}})
    )
    with running_collector(tmp_path, config) as collector:
        environ = collector.senders | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://{collector.grpc if protocol == 'grpc' else collector.http}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_CERTIFICATE": files["ca"],
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
            "REQUESTS_CA_BUNDLE": other_bundle(tmp_path),  # of others: the one for the collector goes before
            **ALL,
        }
        with service_process(tmp_path, workshop.environ() | environ) as service:
            predict(service)
            assert service.stop() == 0
        environ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE"] = files["client"]  # and the key for all signals
        environ["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = files["client-key"]
        with service_process(tmp_path, workshop.environ() | environ) as service:
            predict(service, W3C)
            spans = arrived(collector, 2)
    assert {span.trace for span in spans} == {TRACE}, "those that were sent without a certificate are lost"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_private_ca_of_every_client_is_the_collectors_too(workshop: Workshop, tmp_path: Path, protocol: str):
    """Named by OpenSSL's variable alone, which neither exporter reads."""
    ca = trustme.CA()
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "server", "server-key")}
    server = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(files["ca"])
    server.cert_chain_pems[0].write_to_path(files["server"])
    server.private_key_pem.write_to_path(files["server-key"])
    tls = {"cert_file": files["server"], "key_file": files["server-key"]}
    config = tmp_path / "tls.yaml"
    config.write_text(
        yaml.safe_dump({"receivers": {"otlp": {"protocols": {"http": {"tls": tls}, "grpc": {"tls": tls}}}}})
    )
    others = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")
    with running_collector(tmp_path, config) as collector:
        environ = collector.senders | dict.fromkeys(others, "") | ALL
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"https://{collector.grpc if protocol == 'grpc' else collector.http}"
        environ |= {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "SSL_CERT_FILE": files["ca"]}
        with service_process(tmp_path, workshop.environ() | environ) as service:
            predict(service, W3C)
            assert {span.trace for span in arrived(collector, 2)} == {TRACE}


@pytest.mark.parametrize(
    "environ", [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_SAMPLER": "always_off"}]
)
def test_nothing_leaves_where_nothing_is_to(workshop: Workshop, tmp_path: Path, environ: dict[str, str]):
    """Even for a caller that has sampled its trace."""
    with running_collector(tmp_path) as collector:
        with service_process(tmp_path, workshop.environ() | collector.senders | ALL | environ) as service:
            predict(service, W3C)
            assert service.stop() == 0
        time.sleep(4)  # the collector decides after 2 s, and writes a second later
        assert collector.spans() == []


def test_the_console_exporter_prints(workshop: Workshop, tmp_path: Path):
    """On the standard output, beside the log lines."""
    with service_process(tmp_path, workshop.environ() | {"OTEL_TRACES_EXPORTER": "console"} | ALL) as service:
        predict(service, W3C)
        assert service.stop() == 0
        assert f"0x{TRACE}" in service.output()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_that_hangs_keeps_neither_a_request_nor_the_end(workshop: Workshop, tmp_path: Path, protocol: str):
    """The last spans are given up, and counted until then."""
    with running_collector(tmp_path) as collector:
        environ = collector.senders | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.grpc if protocol == 'grpc' else collector.http}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
            **ALL,
        }
        with service_process(tmp_path, workshop.environ() | environ) as service:
            collector.signal(signal.SIGSTOP)
            for _ in range(600):
                predict(service)
            collector.wait_for("a lost batch", lambda: b'undelivered"} 0.0' not in service.call("/metrics")[2])
            assert service.stop() == 0
            assert "telemetry.spans.lost" in service.output()


def test_under_opentelemetry_instrument_each_request_has_one_server_span(workshop: Workshop, tmp_path: Path):
    """Its own, with the service's steps below it; the service adds none."""
    command = (str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "-m", "calsvc")
    wrapped = ("-c", f"import os, sys; os.execv({command[0]!r}, {list(command)!r})")
    with running_collector(tmp_path) as collector:
        environ = (
            collector.senders
            | {"OTEL_TRACES_EXPORTER": "otlp_proto_http", "OTEL_METRICS_EXPORTER": "none"}  # a name of the SDK's own
            | {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis"}
            | ALL
        )
        with service_process(tmp_path, workshop.environ() | environ, command=wrapped) as service:
            predict(service, W3C)
            spans = [each for each in arrived(collector, 2) if each.trace == TRACE]
            time.sleep(3)
            spans = [each for each in collector.spans() if each.trace == TRACE]
            assert "no effect" not in service.output()
    assert [each.name for each in spans if each.kind == SERVER] == ["POST /predict"]
    assert "score" in [each.name for each in spans]


# --- what a span says -------------------------------------------------------------------------------------------------


def test_the_environment_says_whose_spans_they_are(workshop: Workshop, tmp_path: Path):
    """In spans, in log lines and in target_info."""
    told = {"OTEL_SERVICE_NAME": "calories", "OTEL_RESOURCE_ATTRIBUTES": "service.version=9,team=data"}
    with (
        running_collector(tmp_path) as collector,
        service_process(tmp_path, workshop.environ() | collector.senders | ALL | told) as service,
    ):
        predict(service)
        span = server_span(arrived(collector, 2))
        scraped = service.call("/metrics")[2].decode()
        line = json.loads(service.output().splitlines()[-1])
    assert (span.service, span.resource["service.version"], span.resource["team"]) == ("calories", "9", "data")
    assert (line["service.name"], line["service.version"]) == ("calories", "9")
    assert 'service_name="calories"' in next(line for line in scraped.splitlines() if line.startswith("target_info"))


@pytest.mark.parametrize(
    ("propagators", "headers"),
    [
        ("tracecontext,baggage", {**W3C, "baggage": "user=7"}),
        ("b3,baggage", {"b3": f"{TRACE}-{PARENT}-1", "baggage": "user=7"}),
        (
            "b3multi,baggage",
            {"X-B3-TraceId": TRACE, "X-B3-SpanId": PARENT, "X-B3-Sampled": "1", "baggage": "user=7"},
        ),
    ],
)
def test_a_callers_trace_and_baggage_reach_a_users_own_span(
    workshop: Workshop, tmp_path: Path, propagators: str, headers: dict[str, str]
):
    """Which is a child of the request's, and no query string leaves; a request that is not sampled leaves nothing."""
    environ = {"OTEL_PROPAGATORS": propagators, "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    with running_collector(tmp_path) as collector:
        environ = workshop.environ() | collector.senders | environ
        with service_process(tmp_path, environ, command=("-m", "tests.live.user_spans")) as service:
            predict(service)
            predict(service, headers, "?token=secret")
            service.call("/healthz")
            spans = arrived(collector, 3)
            host = service.url.split("//")[1].split(":")[0]
    span = server_span(spans)
    assert (len(spans), span.trace, span.parent) == (3, TRACE, PARENT)
    inner = {each.name: each for each in spans if each.kind == INTERNAL}
    assert (inner["user's own"].parent, inner["score"].parent) == (span.id, inner["user's own"].id)
    assert inner["user's own"].attributes["user"] == "7"
    assert span.attributes["server.address"] == host
    assert "secret" not in str(spans)

"""Every OTEL_* variable is honoured, refused in one line, or named in a warning; none is silently ignored."""

import base64
import gzip
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import environment_variables as of_api
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk import environment_variables as of_sdk
from opentelemetry.trace import SpanKind
from prometheus_client import generate_latest

from observability.otel_environment import (
    DEFAULTS,
    HONOURED,
    SIMULATOR,
    WrongVariable,
    check,
    is_disabled,
    prepare,
    span_exporters,
)
from observability.telemetry import Telemetry, processors_from
from observability.tracing import Ended
from tests.conftest import run_module
from tests.service_process import ROOT

NAMES = sorted(
    {text for each in (of_api, of_sdk) for name, text in vars(each).items() if name.startswith(("OTEL_", "_OTEL_"))}
)
"""Every variable that the installed API and SDK know."""
HTTP = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
HTTPS = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:4318"}
GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
OTLP = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"


class Files(NamedTuple):
    """PEM files of a private authority, of a client, and of someone else."""

    authority: Path
    client: Path
    client_key: Path
    locked_key: Path
    other_key: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Make them; the locked key is the client's with a password."""
    folder, ca = tmp_path_factory.mktemp("certificates"), trustme.CA()
    found = Files(*(folder / f"{name}.pem" for name in Files._fields))
    client, other = ca.issue_cert("client"), ca.issue_cert("other")
    ca.cert_pem.write_to_path(str(found.authority))
    client.cert_chain_pems[0].write_to_path(str(found.client))
    client.private_key_pem.write_to_path(str(found.client_key))
    other.private_key_pem.write_to_path(str(found.other_key))
    key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
    how = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    found.locked_key.write_bytes(key.private_bytes(*how, serialization.BestAvailableEncryption(b"secret")))
    return found


# --- the names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("honoured", [HONOURED, SIMULATOR], ids=["service", "simulator"])
@pytest.mark.parametrize("key", NAMES)
def test_none_is_silently_ignored(key: str, honoured: Mapping[str, Any]):
    """Each variable of the SDK has an effect, or a warning."""
    assert key in honoured or check({key: "1"}, honoured) != []


@pytest.mark.parametrize(
    ("of_service", "of_simulator"),
    [
        ("OTEL_PYTHON_STARLETTE_EXCLUDED_URLS", "OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS"),
        (
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST",
        ),
    ],
)
def test_each_side_warns_of_what_only_the_other_honours(of_service: str, of_simulator: str):
    """Both are often started from the same environment."""
    environ = {of_service: "x", of_simulator: "x", "OTEL_TRACES_EXPORTER": "console"}
    assert check(environ) == [f"{of_simulator} has no effect"]
    assert check(environ, SIMULATOR) == [f"{of_service} has no effect"]


def test_what_is_honoured_is_what_the_libraries_read():
    """Each name stands in a public list of theirs, or in the documentation of the instrumentation."""
    of_instrumentation = {name for name in HONOURED if "_HTTP_CAPTURE_HEADERS_" in name or "_EXCLUDED_URLS" in name}
    assert HONOURED.keys() - NAMES == of_instrumentation | {"OTEL_SEMCONV_STABILITY_OPT_IN"}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_SERVICE_NAME", "\udcff"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=a,,b=c"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=a"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=\udcff"),
        ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "cloud"),
        ("OTEL_PROPAGATORS", "b4"),
        ("OTEL_PROPAGATORS", "B3"),
        ("OTEL_PROPAGATORS", "b3,"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_EXPORTER", "otlp,none"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "database"),
        ("OTEL_PYTHON_CONTEXT", "threads"),
        ("OTEL_PYTHON_EXCLUDED_URLS", "("),
        ("OTEL_PYTHON_STARLETTE_EXCLUDED_URLS", "a,(?i)b"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "-1"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1.5"),
        ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "*"),
        *((f"{prefix}PROTOCOL", "http/json") for prefix in (OTLP, TRACES)),
        *((f"{prefix}TIMEOUT", "0") for prefix in (OTLP, TRACES)),
        *((f"{prefix}TIMEOUT", "10000") for prefix in (OTLP, TRACES)),  # milliseconds, as the specification has it
        *((f"{prefix}COMPRESSION", "zstd") for prefix in (OTLP, TRACES)),
        *((f"{prefix}CERTIFICATE", "/nowhere/ca.pem") for prefix in (OTLP, TRACES)),
        *((f"{prefix}CERTIFICATE", __file__) for prefix in (OTLP, TRACES)),
        *((f"{prefix}CLIENT_CERTIFICATE", "/nowhere/client.pem") for prefix in (OTLP, TRACES)),
        *((f"{prefix}CLIENT_CERTIFICATE", __file__) for prefix in (OTLP, TRACES)),
        *((f"{prefix}CLIENT_KEY", "/nowhere/client.key") for prefix in (OTLP, TRACES)),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_accepted(key: str, wrong: str):
    """In one line."""
    with pytest.raises(WrongVariable) as refused:
        check({key: wrong})
    assert refused.value.key == key
    assert str(refused.value).startswith(f"{key}={wrong!r}: expected ")


@pytest.mark.parametrize("prefix", [OTLP, TRACES])
@pytest.mark.parametrize(
    ("end", "wrong"),
    [
        ("ENDPOINT", "user:hidden@collector:4318"),
        ("ENDPOINT", "ftp://user:hidden@collector"),
        ("ENDPOINT", "http://user:hidden@"),
        ("ENDPOINT", "http://user:12/hidden@collector:4318"),
        ("ENDPOINT", "http://user:12#hidden@collector"),
        ("ENDPOINT", 'http://user:hidden@col"lector'),
        ("PROTOCOL", "http://user:hidden@collector"),
        ("ENDPOINT", "http://user:hidden@\udcff"),
        ("HEADERS", "hidden"),
        ("HEADERS", "authorization=grün hidden"),
        ("HEADERS", "authorization=%e2%82%ac hidden"),
        ("HEADERS", "a b=hidden"),
        ("HEADERS", "a%20b=hidden"),
        ("HEADERS", "a=hidden;b"),  # the exporter would leave it out
        ("HEADERS", 'a="hidden"'),
        ("HEADERS", "a=hidden%0d%0ab: c"),
    ],
)
def test_a_secret_is_not_shown(prefix: str, end: str, wrong: str):
    """Addresses may hold a password, and headers usually do."""
    with pytest.raises(WrongVariable) as refused:
        check({f"{prefix}{end}": wrong})
    assert refused.value.key == f"{prefix}{end}"
    assert "hidden" not in str(refused.value) + refused.value.shown


@pytest.mark.parametrize(
    ("environ", "blamed"),
    [
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"}, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "9"}, "OTEL_BSP_MAX_QUEUE_SIZE"),
        ({f"{OTLP}CLIENT_KEY": "{client_key}"}, f"{OTLP}CLIENT_KEY"),
        ({f"{TRACES}CLIENT_KEY": "{client_key}"}, f"{TRACES}CLIENT_KEY"),
        ({f"{OTLP}CLIENT_CERTIFICATE": "{client}"}, f"{OTLP}CLIENT_CERTIFICATE"),  # its key is nowhere
        (
            {f"{OTLP}CLIENT_CERTIFICATE": "{client}", f"{OTLP}CLIENT_KEY": "{other_key}"},
            f"{OTLP}CLIENT_CERTIFICATE",
        ),
        (
            {f"{TRACES}CLIENT_CERTIFICATE": "{client}", f"{OTLP}CLIENT_KEY": "{locked_key}"},
            f"{TRACES}CLIENT_CERTIFICATE",
        ),
        (
            {**GRPC, f"{OTLP}CLIENT_CERTIFICATE": "{client}", f"{OTLP}CLIENT_KEY": "{client_key}"},
            f"{OTLP}CLIENT_CERTIFICATE",  # over gRPC it is not sent without an authority
        ),
        ({**GRPC, f"{OTLP}COMPRESSION": "deflate"}, f"{OTLP}COMPRESSION"),
        ({**GRPC, f"{OTLP}HEADERS": "a!=b"}, f"{OTLP}HEADERS"),
        ({**GRPC, f"{TRACES}HEADERS": "a-bin=b"}, f"{TRACES}HEADERS"),
    ],
)
def test_what_does_not_go_together_is_refused(files: Files, environ: Mapping[str, str], blamed: str):
    """Naming one of the variables."""
    placed = {key: text.format(**files._asdict()) for key, text in environ.items()}
    with pytest.raises(WrongVariable) as refused:
        check(placed)
    assert refused.value.key == blamed


@pytest.mark.parametrize("headers", ["", "a=b", "a=b,"])
@pytest.mark.parametrize("end", ["", "TRACES_"])
def test_user_and_password_of_the_endpoint_are_sent_as_a_header(end: str, headers: str):
    """Over HTTP and gRPC alike, beside others; the endpoint that libraries see has no password."""
    environ = {f"{OTLP}{end}ENDPOINT": "http://me:p%40ss@host:4318/x", f"{OTLP}HEADERS": headers, **GRPC}
    assert prepare(environ) == []
    assert environ[f"{OTLP}{end}ENDPOINT"] == "http://host:4318/x"
    sent = [f"authorization=Basic%20{base64.b64encode(b'me:p@ss').decode().replace('=', '%3D')}"]
    assert environ[f"{TRACES}HEADERS"].split(",") == (["a=b"] if headers else []) + sent
    check(environ)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch):
    """Before anything starts."""
    monkeypatch.setattr("observability.otel_environment.find_spec", lambda _: None)
    with pytest.raises(WrongVariable, match=r"calsvc\[grpc\]"):
        check({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


@pytest.mark.parametrize(
    ("key", "value"), [("OTEL_BSP_MAX_QUEUE_SIZE", "1\n2"), ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")]
)
def test_a_wrong_variable_stops_the_start_with_one_line(tmp_path: Path, key: str, value: str):
    """And exit code 2, without a traceback."""
    stopped = run_module(tmp_path, "calsvc", **{key: value})
    assert (stopped.returncode, stopped.stdout, stopped.stderr.count("\n")) == (2, "", 1)
    assert stopped.stderr.startswith(f"error: {key}=")
    assert "s3cret" not in stopped.stderr


# --- what is warned of ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "warned"),
    [
        ({}, []),
        (dict.fromkeys(HONOURED, " "), []),
        (HTTP, []),
        (HTTP | {"OTEL_TRACES_EXPORTER": "otlp,console"}, []),
        ({"OTEL_METRICS_EXPORTER": "Prometheus", "OTEL_LOGS_EXPORTER": "none"}, []),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, ["OTEL_METRICS_EXPORTER=otlp has no effect: only traces are sent"]),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, ["OTEL_LOGS_EXPORTER=otlp has no effect: only traces are sent"]),
        ({"OTEL_SDK_DISABLED": "TRUE"}, ["OTEL_SDK_DISABLED=true: no spans, and /metrics lacks"]),
        ({"OTEL_TRACES_SAMPLER_ARG": "1"}, []),
        ({"OTEL_TRACES_SAMPLER_ARG": "1", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, []),
        (
            {"OTEL_TRACES_SAMPLER_ARG": "1", "OTEL_TRACES_SAMPLER": "always_on"},
            ["OTEL_TRACES_SAMPLER_ARG has no effect with OTEL_TRACES_SAMPLER=always_on"],
        ),
        ({"OTEL_TRACE_SAMPLER": "always_on"}, ["OTEL_TRACE_SAMPLER has no effect"]),
        ({"OTEL_BSP_EXPORT_TIMEOUT": "1"}, ["OTEL_BSP_EXPORT_TIMEOUT has no effect"]),
        ({"OTEL_BSP_SCHEDULE_DELAY": "1"}, ["OTEL_BSP_SCHEDULE_DELAY has no effect: no spans are exported"]),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h"},
            ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT has no effect: only"],
        ),
        ({f"{OTLP}HEADERS": "a=b"}, [f"{OTLP}HEADERS has no effect: no spans are exported"]),
        (HTTP | {"OTEL_TRACES_EXPORTER": "none"}, [f"{OTLP}ENDPOINT has no effect: no spans are exported"]),
        (
            HTTP | {"OTEL_TRACES_EXPORTER": "console"},
            [f"{OTLP}ENDPOINT has no effect: OTEL_TRACES_EXPORTER does not name otlp"],
        ),
        (HTTP | {f"{OTLP}INSECURE": "true"}, [f"{OTLP}INSECURE has no effect: http:// or https:// of the endpoint"]),
        (
            HTTP | {f"{OTLP}CERTIFICATE": "{authority}"},
            [f"{OTLP}CERTIFICATE has no effect: the endpoint is not https://"],
        ),
        (HTTPS | {f"{OTLP}CERTIFICATE": "{authority}"}, []),
        (HTTPS | {f"{TRACES}CLIENT_CERTIFICATE": "{client}", f"{OTLP}CLIENT_KEY": "{client_key}"}, []),
        (HTTPS | GRPC | {f"{OTLP}COMPRESSION": "none", f"{OTLP}HEADERS": "A=b"}, []),
    ],
)
def test_what_has_no_effect_is_named_in_a_line_of_its_own(files: Files, environ: Mapping[str, str], warned: list[str]):
    """And only that."""
    lines = check({key: text.format(**files._asdict()) for key, text in environ.items()})
    assert len(lines) == len(warned)
    assert all(line.startswith(beginning) for line, beginning in zip(lines, warned, strict=True))
    assert not any("\n" in line for line in lines)


# --- what the SDK then reads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "exporters"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, ["OTLPSpanExporter"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:4318/v1/traces"}, ["OTLPSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["OTLPSpanExporter"]),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, []),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, ["ConsoleSpanExporter", "OTLPSpanExporter"]),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "otlp"}, []),
        ({"OTEL_TRACES_EXPORTER": "Console, console"}, ["ConsoleSpanExporter"]),
    ],
)
def test_spans_leave_where_an_exporter_or_an_endpoint_is_named(environ: dict[str, str], exporters: list[str]):
    """And only there: OpenTelemetry's own default, a collector on this machine, would log errors all the time."""
    assert [type(make()).__name__ for make in span_exporters(environ)] == exporters


@pytest.mark.parametrize(("protocol", "package"), [("grpc", "grpc"), ("http/protobuf", "http"), ("", "http")])
@pytest.mark.parametrize("signal", ["TRACES_", ""])
def test_the_protocol_decides_which_exporter_it_is(protocol: str, package: str, signal: str):
    """The one for traces goes before the one for everything."""
    environ = {f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL": protocol, "OTEL_TRACES_EXPORTER": "otlp"}
    (make,) = span_exporters(environ)
    exporter = make()
    assert f".{package}." in type(exporter).__module__
    exporter.shutdown()


@pytest.mark.parametrize("text", ["true", "TRUE", " true "])
def test_the_sdk_is_off_where_the_sdk_itself_thinks_so(text: str):
    """In letters of either size."""
    assert is_disabled({"OTEL_SDK_DISABLED": text})


def test_the_queue_has_as_much_room_as_the_variable_says():
    """The SDK's own is as large, or it would drop before it is counted."""
    (processor,) = processors_from({"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_MAX_QUEUE_SIZE": "700"})
    assert processor.room == 700
    processor.shutdown()


def test_the_environment_is_made_such_that_the_sdk_reads_what_was_checked():
    """Blanks, empty values and what has no effect go; the defaults come; traces' own value wins."""
    environ = {
        "PATH": "/bin",
        "OTEL_SERVICE_NAME": "",
        "OTEL_PROPAGATORS": "  ",
        "OTEL_TRACES_SAMPLER": " always_on ",
        "OTEL_METRICS_EXEMPLAR_FILTER": "no such filter",
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "no such provider",
        f"{OTLP}TIMEOUT": "3",
        f"{OTLP}HEADERS": "a=b",
        f"{TRACES}HEADERS": "c=d",
        f"{OTLP}COMPRESSION": "gzip",
        f"{TRACES}COMPRESSION": "none",
        **HTTP,
    }
    prepare(environ)
    assert environ == {
        "PATH": "/bin",
        **DEFAULTS,
        "OTEL_TRACES_SAMPLER": "always_on",
        f"{TRACES}TIMEOUT": "3",
        f"{TRACES}HEADERS": "c=d",
        **HTTP,
    }


WORDS = [
    *(
        "",
        " ",
        "0",
        "1",
        "0.5",
        "1e3",
        "nan",
        "-1",
        "true",
        "false",
        "none",
        "None",
        "a=b",
        "a=b,c=%20d",
        "=",
        ",",
        "a=;",
    ),
    *(
        "always_on",
        "traceidratio",
        " Always_Off",
        "parentbased_traceidratio",
        "b3",
        "b3multi,baggage",
        "tracecontext",
        "*",
    ),
    *(
        "otlp",
        "console",
        "otlp,console",
        "prometheus",
        "http",
        "http/dup",
        "database",
        "grpc",
        "http/protobuf",
        "http/json",
    ),
    *(
        "gzip",
        "deflate",
        "Gzip",
        "http://[::1]:4317",
        "https://h",
        "http://u:p@h:1/x?y",
        "http://\udcff",
        "[[a]",
        "(?i)x,y",
    ),
    *(
        "host,os",
        "service_instance",
        "contextvars_context",
        "unset",
        "2147483648",
        "2147483649",
        "ключ=значение",
        "a.b=1",
    ),
    *("a=\udcff", "/", "/dev/null", "a\x00b", "{1}", "a{99999999999}"),
]


def accepted(key: str, text: str) -> bool:
    """Whether a variable may have a value, where no other is set; and no process can be given a NUL."""
    try:
        check({key: text})
    except WrongVariable:
        return False
    return "\0" not in text


ANYTHING = st.sampled_from(WORDS) | st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)
ENVIRONMENTS = st.dictionaries(st.sampled_from(sorted({*HONOURED, *SIMULATOR, *NAMES})), ANYTHING, max_size=6)
ACCEPTED = [(key, text) for key in sorted({*HONOURED, *SIMULATOR, *NAMES}) for text in WORDS if accepted(key, text)]
PLAUSIBLE = st.builds(
    lambda pairs, base: dict(pairs) | base,
    st.lists(st.sampled_from(ACCEPTED), max_size=12),
    st.sampled_from([{}, HTTP, HTTP | GRPC, HTTPS | GRPC, {"OTEL_TRACES_EXPORTER": "otlp,console"} | HTTPS]),
)


@given(ENVIRONMENTS)
@example({"OTEL_PYTHON_EXCLUDED_URLS": "[[a]"})
@example({f"{OTLP}CLIENT_KEY": "/dev/null", f"{OTLP}CLIENT_CERTIFICATE": "/dev/null"})
def test_no_text_has_another_outcome_than_a_refusal_or_warnings(environ: dict[str, str]):
    """Whatever the variables hold."""
    try:
        lines = check(environ)
    except WrongVariable as wrong:
        assert wrong.key in environ
        assert wrong.accepts
    else:
        assert not any("\n" in line or line.endswith(": ") for line in lines)


def build(environ: Mapping[str, str]) -> Telemetry:
    """Build what the service would, with nothing but `environ`."""
    with pytest.MonkeyPatch.context() as patch:
        for key in [key for key in os.environ if key.startswith("OTEL_")]:
            patch.delenv(key)
        for key, text in environ.items():
            patch.setenv(key, text)
        return Telemetry({"service.name": "test"}, processors_from(environ))


@given(PLAUSIBLE)
@example(GRPC | HTTP | {f"{OTLP}COMPRESSION": "none", f"{OTLP}TIMEOUT": "1"})
@example(HTTP | {"OTEL_BSP_MAX_QUEUE_SIZE": "2147483648", "OTEL_ATTRIBUTE_COUNT_LIMIT": "0"})
def test_what_is_accepted_the_sdk_accepts_without_a_word(environ: dict[str, str]):
    """Telemetry is built, and can be scraped, and nothing is logged of a value that was not understood."""
    prepared = dict(environ)
    try:
        prepare(prepared)
    except WrongVariable:
        return
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("logging.Logger.handle", lambda _, record: lines.append(record.getMessage()))
        telemetry = build(prepared)
        telemetry.meter.create_counter("of.this.test").add(1)
        generate_latest(telemetry.registry)
        telemetry.shutdown()
    assert lines == []


@pytest.mark.parametrize(
    ("sampler", "described"),
    [
        ("always_on", "AlwaysOnSampler"),
        ("always_off", "AlwaysOffSampler"),
        ("TraceIdRatio", "TraceIdRatioBased{0.25}"),
        ("parentbased_always_on", "ParentBased{root:AlwaysOnSampler,"),
        ("parentbased_always_off", "ParentBased{root:AlwaysOffSampler,"),
        ("parentbased_traceidratio", "ParentBased{root:TraceIdRatioBased{0.25},"),
        ("", "ParentBased{root:TraceIdRatioBased{0.25},"),
    ],
)
def test_the_sampler_is_the_one_that_was_named(sampler: str, described: str):
    """In letters of either size; without a name it is the parent's decision, else the ratio."""
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    prepare(environ)
    assert build(environ).tracing.provider.sampler.get_description().startswith(described)


@pytest.fixture
def received() -> Iterator[tuple[str, list[tuple[Message, bytes]]]]:
    """Where a server listens, and the headers and bodies of what it has got."""
    got: list[tuple[Message, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()


@pytest.mark.parametrize(
    ("compression", "decompress"),
    [("gzip", gzip.decompress), ("deflate", zlib.decompress), ("none", bytes), ("", bytes)],
)
@pytest.mark.parametrize("prefix", [OTLP, TRACES])
def test_what_is_sent(
    received: tuple[str, list[tuple[Message, bytes]]],
    compression: str,
    decompress: Callable[[bytes], bytes],
    prefix: str,
):
    """Protobuf, compressed as asked, with the headers and below the path of the endpoint."""
    url, got = received
    environ = {f"{OTLP}ENDPOINT": f"{url}/", f"{prefix}COMPRESSION": compression, "NO_PROXY": "*"} | {
        f"{OTLP}HEADERS": "not=sent",
        f"{TRACES}HEADERS": "Authorization=Basic%20Zm8=, x-team = a b ",
    }
    assert prepare(environ) == []
    telemetry = build(environ)
    telemetry.tracing.record(Ended("slow", SpanKind.SERVER, 1, {}, None, 1))
    telemetry.shutdown()
    ((headers, body),) = got
    spans = ExportTraceServiceRequest.FromString(decompress(body)).resource_spans[0].scope_spans[0].spans
    assert [span.name for span in spans] == ["slow"]
    assert headers["content-type"] == "application/x-protobuf"
    assert headers.get("content-encoding", "none") == (compression or "none")
    assert (headers["authorization"], headers["x-team"], headers["not"]) == ("Basic Zm8=", "a b", None)


TRIED = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "1000",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9/",
    "OTEL_EXPORTER_OTLP_HEADERS": "a=b,c=d%20e",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
    "OTEL_PROPAGATORS": "b3multi,baggage",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10",
    "OTEL_TRACES_SAMPLER": "traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "1",
}


def test_what_is_accepted_is_accepted_by_the_sdk_too():
    """In a process of its own, since much is read at the import: no exception, and no warning of the libraries."""
    script = (
        "import os; from observability.otel_environment import prepare; assert prepare(os.environ) == [];"
        "from observability.telemetry import Telemetry, processors_from;"
        "t = Telemetry({}, processors_from(os.environ)); print(t.tracing.provider.sampler.get_description());"
        "t.shutdown()"
    )
    environ = {key: text for key, text in os.environ.items() if not key.startswith("OTEL_")} | TRIED
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "TraceIdRatioBased{1.0}\n", "")

"""The OTEL_* variables: which are honoured, which refused, and which named in a warning."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk import environment_variables

from observability.otel_environment import (
    DEFAULTS,
    HONOURED,
    SIMULATOR,
    WrongVariable,
    check,
    is_disabled,
    span_exporters,
)
from observability.telemetry import processors_from
from tests.conftest import run_module
from tests.service_process import ROOT

NAMES = sorted({value for name, value in vars(environment_variables).items() if name.startswith(("OTEL_", "_OTEL_"))})
"""Every variable that the installed SDK knows."""
WRONG = {
    "OTEL_SDK_DISABLED": "yes",
    "OTEL_RESOURCE_ATTRIBUTES": "team",
    "OTEL_PROPAGATORS": "b4",
    "OTEL_TRACES_EXPORTER": "zipkin",
    "OTEL_TRACES_SAMPLER": "sometimes",
    "OTEL_TRACES_SAMPLER_ARG": "1.5",
    "OTEL_BSP_MAX_QUEUE_SIZE": "many",
    "OTEL_BSP_SCHEDULE_DELAY": "0",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "-1",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "no such file",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": "no such file",
    "OTEL_PYTHON_EXCLUDED_URLS": "(",
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_value_names_key_value_and_what_is_accepted(key: str):
    """In one line."""
    with pytest.raises(WrongVariable) as caught:
        check({key: WRONG[key]})
    assert str(caught.value) == f"{key}={WRONG[key]!r}: expected {HONOURED[key].accepts}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://me:s3cret@host"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://me:s3cret@host:port"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=s3cr\xebt"),
    ],
)
def test_a_secret_is_not_shown(key: str, value: str):
    """Where a password is in something wrong, nobody can tell."""
    with pytest.raises(WrongVariable) as caught:
        check({key: value})
    assert "s3cr" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__ and ''}"


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_BSP_MAX_QUEUE_SIZE": "100"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"},
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY": __file__},
    ],
)
def test_values_that_do_not_go_together_are_refused(environ: dict[str, str]):
    """A batch larger than the queue; a client's key without its certificate."""
    with pytest.raises(WrongVariable):
        check(environ)


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
    environ = {of_service: "x", of_simulator: "x"}
    assert check(environ) == [f"{of_simulator} has no effect"]
    assert check(environ, SIMULATOR) == [f"{of_service} has no effect"]


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"OTEL_METRICS_EXPORTER": "otlp"}, "/metrics"),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, "standard output"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h"}, "/metrics"),
        ({"OTEL_SDK_DISABLED": "true"}, "meters"),
        ({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, "OTEL_TRACES_SAMPLER=always_on"),
        ({"OTEL_TRACE_SAMPLER": "always_on"}, "OTEL_TRACE_SAMPLER has no effect"),
    ],
)
def test_what_has_no_effect_or_a_surprising_one_is_one_warning(environ: dict[str, str], word: str):
    """It says what has an effect instead."""
    (warning,) = check(environ)
    assert word in warning


@pytest.mark.parametrize(
    "environ",
    [{}, dict(DEFAULTS), {"OTEL_METRICS_EXPORTER": "prometheus"}, {"OTEL_LOGS_EXPORTER": "none"}, {"PATH": "/bin"}],
)
def test_what_is_as_expected_is_not_mentioned(environ: dict[str, str]):
    """Neither are empty values, nor the variables of others."""
    assert check({**environ, "OTEL_TRACES_SAMPLER_ARG": ""}) == []


@given(st.dictionaries(st.sampled_from(sorted(HONOURED)), st.text(max_size=30), max_size=4))
def test_whatever_is_set_has_an_answer(environ: dict[str, str]):
    """Warnings, or the one error."""
    try:
        assert all("\n" not in warning for warning in check(environ))
    except WrongVariable as wrong:
        assert wrong.key in environ


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


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch):
    """Before anything starts."""
    monkeypatch.setattr("observability.otel_environment.find_spec", lambda _: None)
    with pytest.raises(WrongVariable, match=r"calsvc\[grpc\]"):
        check({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


@pytest.mark.parametrize("text", ["true", "TRUE", " true "])
def test_the_sdk_is_off_where_the_sdk_itself_thinks_so(text: str):
    """In letters of either size."""
    assert is_disabled({"OTEL_SDK_DISABLED": text})


ACCEPTED = {
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
        "import os; from observability.otel_environment import check; assert check(os.environ) == [];"
        "from observability.telemetry import Telemetry, processors_from;"
        "t = Telemetry({}, processors_from(os.environ)); print(t.tracing.provider.sampler.get_description());"
        "t.shutdown()"
    )
    environ = {key: text for key, text in os.environ.items() if not key.startswith("OTEL_")} | ACCEPTED
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "TraceIdRatioBased{1.0}\n", "")


def test_the_queue_has_as_much_room_as_the_variable_says():
    """The SDK's own is as large, or it would drop before it is counted."""
    (processor,) = processors_from({"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_MAX_QUEUE_SIZE": "700"})
    assert processor.room == 700
    processor.shutdown()


@pytest.mark.parametrize(
    ("key", "value"), [("OTEL_BSP_MAX_QUEUE_SIZE", "100"), ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")]
)
def test_a_wrong_variable_stops_the_start_with_one_line(tmp_path: Path, key: str, value: str):
    """And exit code 2, without a traceback."""
    stopped = run_module(tmp_path, "calsvc", **{key: value})
    assert (stopped.returncode, stopped.stdout, stopped.stderr.count("\n")) == (2, "", 1)
    assert stopped.stderr.startswith(f"error: {key}=")
    assert "s3cret" not in stopped.stderr

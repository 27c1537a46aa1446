"""The standard OTEL_* variables: each is honoured, refused with its name, or named in a warning.

OpenTelemetry's SDK, its OTLP exporters and its ASGI instrumentation read the variables themselves. What they do not do
is refuse a wrong value in one line, or mention a variable that has no effect here.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from observability.addresses import http_url, scheme_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.1",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",  # the stable names of attributes; without it the deprecated ones
    }
)
"""What holds where a variable is unset, and differs from OpenTelemetry's own default."""
GRPC: Final = "grpc"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
BATCH_DEFAULTS: Final = {"OTEL_BSP_MAX_QUEUE_SIZE": 2048, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 512}
SAMPLERS: Final = tuple(
    f"{parent}{sampler}" for parent in ("", "parentbased_") for sampler in ("always_on", "always_off", "traceidratio")
)
_HEADER: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+=([!-~]([ -~]*[!-~])?)?", re.ASCII)
_TRACES_ONLY: Final = "only traces are sent: metrics are read at /metrics, logs are lines on the standard output"


class WrongVariable(ValueError):
    """A variable has a value that is not accepted. `shown`: what an error line may show of it."""

    def __init__(self, key: str, shown: str, accepts: str) -> None:
        super().__init__(f"{key}={shown!r}: expected {accepts}")
        self.key, self.shown, self.accepts = key, shown, accepts


class _Check(NamedTuple):
    """Raises ValueError for a text that is not accepted."""

    accepts: str
    parse: Callable[[str], object]
    secret: bool = False


def _one_of(*names: str) -> _Check:
    def parse(text: str) -> None:
        if text.strip().lower() not in names:
            raise ValueError(text)

    return _Check(f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0], parse)


def _some_of(names: Callable[[], set[str]], accepts: str) -> _Check:
    def parse(text: str) -> None:
        if not {each.strip().lower() for each in text.split(",")} <= names():
            raise ValueError(text)

    return _Check(accepts, parse)


def _number(accepts: str, least: float, most: float, kind: Callable[[str], float]) -> _Check:
    def parse(text: str) -> None:
        if not least <= kind(text) <= most:
            raise ValueError(text)

    return _Check(accepts, parse)


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = [each.partition("=") for each in text.split(",") if each.strip()]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise ValueError
    return [(name.strip(), unquote(value.strip())) for name, _, value in pairs]


def _headers(text: str) -> None:
    if not all(_HEADER.fullmatch("=".join(pair)) for pair in _pairs(text)):
        raise ValueError


def _readable(text: str) -> None:
    try:
        Path(text).open("rb").close()
    except OSError as error:
        raise ValueError(text) from error


def _regular_expressions(text: str) -> None:
    try:
        for each in text.split(","):
            re.compile(each)
    except re.error as error:
        raise ValueError(text) from error


def _known_propagators() -> set[str]:
    return {each.name for each in entry_points(group="opentelemetry_propagator")} | {"none"}


_ANY: Final = _Check("text", str)
_FILE: Final = _Check("a file that can be read", _readable)
_URL: Final = _Check("http://... or https://...", http_url, secret=True)
_COUNT: Final = _number("an integer from 1", 1, 2**31, int)
_LIMIT: Final = _number("an integer from 0", 0, 2**31, int)
_PATTERNS: Final = _Check("regular expressions, separated by commas", _regular_expressions)

_OTLP: Final[Mapping[str, _Check]] = {
    "ENDPOINT": _URL,
    "PROTOCOL": _one_of("http/protobuf", GRPC),
    "HEADERS": _Check("NAME=VALUE,NAME=VALUE, in ASCII", _headers, secret=True),
    "TIMEOUT": _number("a number of seconds above 0", 1e-3, 3600, float),
    "COMPRESSION": _one_of("gzip", "deflate", "none"),
    "CERTIFICATE": _FILE,
    "CLIENT_CERTIFICATE": _FILE,
    "CLIENT_KEY": _FILE,
    "INSECURE": _one_of("true", "false"),
}
"""By the end of the name, behind OTEL_EXPORTER_OTLP_ and OTEL_EXPORTER_OTLP_TRACES_."""

HONOURED: Final[Mapping[str, _Check]] = {
    "OTEL_SDK_DISABLED": _one_of("true", "false"),
    "OTEL_SERVICE_NAME": _ANY,
    "OTEL_RESOURCE_ATTRIBUTES": _Check("NAME=VALUE,NAME=VALUE", _pairs),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _ANY,
    "OTEL_PROPAGATORS": _some_of(_known_propagators, "names of installed propagators: tracecontext, baggage, b3, ..."),
    "OTEL_TRACES_EXPORTER": _some_of(lambda: {"otlp", "console", "none"}, "otlp, console or none"),
    "OTEL_TRACES_SAMPLER": _one_of(*SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _number("a number 0..1", 0, 1, float),
    "OTEL_METRICS_EXPORTER": _ANY,
    "OTEL_LOGS_EXPORTER": _ANY,
    "OTEL_SEMCONV_STABILITY_OPT_IN": _ANY,
    "OTEL_PYTHON_CONTEXT": _ANY,
    "OTEL_PYTHON_EXCLUDED_URLS": _PATTERNS,
    "OTEL_PYTHON_STARLETTE_EXCLUDED_URLS": _PATTERNS,
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": _one_of("true", "false"),
    "OTEL_BSP_SCHEDULE_DELAY": _COUNT,
    "OTEL_BSP_EXPORT_TIMEOUT": _COUNT,
    "OTEL_BSP_MAX_QUEUE_SIZE": _COUNT,
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": _COUNT,
    **{
        f"OTEL_{limit}_LIMIT": _LIMIT
        for limit in (
            *("ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH", "EVENT_ATTRIBUTE_COUNT", "LINK_ATTRIBUTE_COUNT"),
            *("SPAN_ATTRIBUTE_COUNT", "SPAN_ATTRIBUTE_VALUE_LENGTH", "SPAN_EVENT_COUNT", "SPAN_LINK_COUNT"),
        )
    },
    **{
        f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_{whose}": _PATTERNS
        for whose in ("SERVER_REQUEST", "SERVER_RESPONSE", "SANITIZE_FIELDS")
    },
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_{protocol}_{signal}CREDENTIAL_PROVIDER": _ANY
        for protocol in ("HTTP", "GRPC")
        for signal in ("", "TRACES_")
    },
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": _ANY,
    **{f"OTEL_EXPORTER_OTLP_{signal}{end}": check for signal in ("", "TRACES_") for end, check in _OTLP.items()},
}
"""What has an effect in the service, by name."""
_CAPTURE: Final = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
_OF_SERVERS: Final = {"OTEL_PYTHON_STARLETTE_EXCLUDED_URLS", f"{_CAPTURE}SERVER_REQUEST", f"{_CAPTURE}SERVER_RESPONSE"}
SIMULATOR: Final[Mapping[str, _Check]] = {
    **{key: check for key, check in HONOURED.items() if key not in _OF_SERVERS},
    "OTEL_PYTHON_AIOHTTP_CLIENT_EXCLUDED_URLS": _PATTERNS,
    f"{_CAPTURE}CLIENT_REQUEST": _PATTERNS,
    f"{_CAPTURE}CLIENT_RESPONSE": _PATTERNS,
    "OTEL_EXPORTER_PROMETHEUS_HOST": _ANY,
    "OTEL_EXPORTER_PROMETHEUS_PORT": _ANY,  # `streamsim.scrapes` refuses what is no port
}
"""What has an effect in the simulator, by name."""


def check(environ: Mapping[str, str], honoured: Mapping[str, _Check] = HONOURED) -> list[str]:
    """Return a warning for each OTEL_* variable that has no effect, or a surprising one. Empty values count as unset.

    Args:
        environ: the environment.
        honoured: what has an effect: `HONOURED` or `SIMULATOR`.

    Raises:
        WrongVariable: a value would be misunderstood. It shows no secret.
    """
    given = {key: text for key, text in environ.items() if key.startswith("OTEL_") and text.strip()}
    for key in given.keys() & honoured.keys():
        _check_one(key, given[key], honoured[key])
    _check_together(given)
    meters = "" if honoured is SIMULATOR else ", and /metrics lacks everything that OpenTelemetry's meters count"
    disabled = [f"OTEL_SDK_DISABLED=true: no spans{meters}"] if is_disabled(given) else []
    return [*_without_effect(given.keys() - honoured.keys()), *disabled, *_surprising(given)]


def _check_one(key: str, text: str, check: _Check) -> None:
    try:
        check.parse(text)
    except ValueError:
        shown = scheme_of(text) if check is _URL else "***" if check.secret else text
        raise WrongVariable(key, shown, check.accepts) from None


def _check_together(given: Mapping[str, str]) -> None:
    queue, batch = (int(given.get(key, default)) for key, default in BATCH_DEFAULTS.items())
    if batch > queue:
        key = next((key for key in reversed(BATCH_DEFAULTS) if key in given), "OTEL_BSP_MAX_QUEUE_SIZE")
        raise WrongVariable(
            key, given[key], "OTEL_BSP_MAX_EXPORT_BATCH_SIZE (512) to be no more than OTEL_BSP_MAX_QUEUE_SIZE (2048)"
        )
    for signal in ("TRACES_", ""):
        key, certificate = (f"OTEL_EXPORTER_OTLP_{signal}CLIENT_{end}" for end in ("KEY", "CERTIFICATE"))
        if key in given and certificate not in given:
            raise WrongVariable(key, given[key], f"{certificate} to be set, too")
    protocol = _protocol(given)
    if protocol == GRPC and find_spec("opentelemetry.exporter.otlp.proto.grpc") is None:
        raise WrongVariable(_protocol_key(given), GRPC, "http/protobuf, or the extra: pip install 'calsvc[grpc]'")


def _without_effect(unknown: Collection[str]) -> list[str]:
    sent = re.compile(r"OTEL_(EXPORTER_OTLP_(METRICS|LOGS)|METRIC|BLRP|LOGRECORD|EXPORTER_PROMETHEUS)_.*")
    return [f"{key} has no effect" + (f": {_TRACES_ONLY}" if sent.fullmatch(key) else "") for key in sorted(unknown)]


def _surprising(given: Mapping[str, str]) -> list[str]:
    told = []
    for key, only in (("OTEL_METRICS_EXPORTER", "prometheus"), ("OTEL_LOGS_EXPORTER", "none")):
        if given.get(key, only).strip().lower() != only:
            told.append(f"{key}={given[key]} has no effect: {_TRACES_ONLY}")
    if "OTEL_TRACES_SAMPLER_ARG" in given and "traceidratio" not in given.get("OTEL_TRACES_SAMPLER", "traceidratio"):
        told.append(f"OTEL_TRACES_SAMPLER_ARG has no effect with OTEL_TRACES_SAMPLER={given['OTEL_TRACES_SAMPLER']}")
    return told


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Tell whether the SDK is switched off."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def span_exporters(environ: Mapping[str, str]) -> "list[Callable[[], SpanExporter]]":
    """Return makers of the exporters that are asked for; without OTEL_TRACES_EXPORTER, OTLP where an endpoint is named.

    The exporters read their own variables.
    """
    endpoint = any(environ.get(key, "").strip() for key in ENDPOINTS)
    asked = environ.get("OTEL_TRACES_EXPORTER", "").strip() or ("otlp" if endpoint else "none")
    names = [] if is_disabled(environ) else [each.strip().lower() for each in asked.split(",")]
    return [partial(_exporter, name, _protocol(environ)) for name in names if name != "none"]


def _exporter(name: str, protocol: str) -> "SpanExporter":
    # Imported by need: an exporter takes a fifth of a second to load.
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

        return ConsoleSpanExporter()
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        return OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415

    from observability.otlp_session import OtlpSession  # noqa: PLC0415

    return Http(session=OtlpSession())


def _protocol_key(environ: Mapping[str, str]) -> str:
    keys = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    return next((key for key in keys if environ.get(key, "").strip()), keys[1])


def _protocol(environ: Mapping[str, str]) -> str:
    return environ.get(_protocol_key(environ), "").strip().lower() or "http/protobuf"

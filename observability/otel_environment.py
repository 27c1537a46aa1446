"""The standard OTEL_* variables: each is honoured, refused with its name, or named in a warning.

OpenTelemetry's SDK, its OTLP exporters and its ASGI instrumentation read the variables themselves. What they do not do
is refuse a wrong value in one line, or mention a variable that has no effect here.

This module loads nothing of OpenTelemetry: some variables are read where its modules are imported.
"""

import re
import ssl
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from observability.addresses import http_url, scheme_of, without_credentials

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
BATCH_DEFAULTS: Final = {"OTEL_BSP_MAX_QUEUE_SIZE": 2048, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 512}
SAMPLERS: Final = tuple(
    f"{parent}{sampler}" for parent in ("", "parentbased_") for sampler in ("always_on", "always_off", "traceidratio")
)
# What the exporters accept: a token, then printable ASCII without quote, comma, semicolon and backslash.
_HEADER: Final = re.compile(r"[ \t]*([\w!#$%&'*+.^`|~-]+)[ \t]*=([ !#-+\--:<-\[\]-~\t]*)", re.ASCII)
_TOKEN: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_METADATA: Final = re.compile(r"(?!grpc-)(?!.*-bin$)[a-z0-9_.-]+")
_OF_SPANS: Final = re.compile(r"OTEL_(BSP_\w+|\w+_LIMIT|INSTRUMENTATION_HTTP_\w+)")
_OF_OTLP: Final = re.compile(r"OTEL_EXPORTER_OTLP_\w+")
_OF_OTHER_SIGNALS: Final = re.compile(
    r"OTEL_(EXPORTER_OTLP_(METRICS|LOGS)|METRICS?|BLRP|LOGRECORD|EXPORTER_PROMETHEUS)_\w+"
)
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


def _some_of(names: Callable[[], Collection[str]], accepts: str) -> _Check:
    def parse(text: str) -> None:
        if not {each.strip() for each in text.split(",")} <= set(names()):
            raise ValueError(text)

    return _Check(accepts, parse)


def _installed(group: str, what: str, *more: str) -> _Check:
    """Accept the names of entry points, written as the SDK looks for them."""
    return _some_of(lambda: {each.name for each in entry_points(group=group)} | set(more), f"names of installed {what}")


def _number(accepts: str, least: float, most: float, kind: Callable[[str], float]) -> _Check:
    def parse(text: str) -> None:
        if not least <= kind(text) <= most:
            raise ValueError(text)

    return _Check(accepts, parse)


def _exporters(text: str) -> None:
    names = _names(text)
    if names != ["none"] and not set(names) <= {"otlp", "console"}:
        raise ValueError(text)


def _names(text: str) -> list[str]:
    return [each.strip().lower() for each in text.split(",")]


def _stable_http(text: str) -> None:
    if not {each.strip() for each in text.split(",")} & {"http", "http/dup"}:
        raise ValueError(text)


def _text(text: str) -> None:
    text.encode()  # bytes of the environment that are no UTF-8 fail: neither spans nor metrics can hold them


def _pairs(text: str) -> None:
    _text(text)
    if not all(equals and name.strip() for name, equals, _ in (each.partition("=") for each in text.split(","))):
        raise ValueError(text)


def _headers(text: str) -> list[str]:
    """Return the names, as they are sent."""
    found = [_HEADER.fullmatch(each.strip(" \t")) for each in text.split(",") if each.strip(" \t")]
    pairs = [(unquote(each[1]).lower(), unquote(each[2]).strip()) for each in found if each]
    if len(pairs) < len(found) or not all(_TOKEN.fullmatch(name) for name, _ in pairs):
        raise ValueError(text)
    if not all(value.isascii() and (value.isprintable() or not value) for _, value in pairs):
        raise ValueError(text)
    return [name for name, _ in pairs]


def _authorities(text: str) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=text)


def _file(text: str) -> None:
    Path(text).open("rb").close()


def _url(text: str) -> None:
    _text(text)
    http_url(text)


def _regular_expressions(text: str) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile("|".join(each.strip() for each in text.split(",")))  # as they are used
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(text) from error


_ANY: Final = _Check("text in UTF-8", _text)
_URL: Final = _Check("http://... or https://...", _url, secret=True)
_COUNT: Final = _number("an integer from 1", 1, 2**31, int)
_LIMIT: Final = _number("an integer from 0", 0, 2**31, int)
_PATTERNS: Final = _Check("regular expressions, separated by commas", _regular_expressions)

_OTLP: Final[Mapping[str, _Check]] = {
    "ENDPOINT": _URL,
    "PROTOCOL": _one_of("http/protobuf", GRPC),
    "HEADERS": _Check("NAME=VALUE,NAME=VALUE, in ASCII", _headers, secret=True),
    "TIMEOUT": _number("seconds (in Python not milliseconds), 0.001..300", 1e-3, 300, float),
    "COMPRESSION": _one_of("gzip", "deflate", "none"),
    "CERTIFICATE": _Check("a PEM file with certificates of authorities", _authorities),
    "CLIENT_CERTIFICATE": _Check("a file that can be read", _file),
    "CLIENT_KEY": _Check("a file that can be read", _file),
}
"""By the end of the name, behind OTEL_EXPORTER_OTLP_ and OTEL_EXPORTER_OTLP_TRACES_."""

HONOURED: Final[Mapping[str, _Check]] = {
    "OTEL_SDK_DISABLED": _one_of("true", "false"),
    "OTEL_SERVICE_NAME": _ANY,
    "OTEL_RESOURCE_ATTRIBUTES": _Check("NAME=VALUE,NAME=VALUE", _pairs),
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": _installed("opentelemetry_resource_detector", "resource detectors", "*"),
    "OTEL_PROPAGATORS": _installed("opentelemetry_propagator", "propagators (tracecontext, baggage, b3, ...)", "none"),
    "OTEL_TRACES_EXPORTER": _Check("otlp, console or none", _exporters),
    "OTEL_TRACES_SAMPLER": _one_of(*SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _number("a number 0..1", 0, 1, float),
    "OTEL_METRICS_EXPORTER": _ANY,
    "OTEL_LOGS_EXPORTER": _ANY,
    "OTEL_SEMCONV_STABILITY_OPT_IN": _Check("http or http/dup, beside any others", _stable_http),
    "OTEL_PYTHON_CONTEXT": _installed("opentelemetry_context", "contexts"),
    "OTEL_PYTHON_EXCLUDED_URLS": _PATTERNS,
    "OTEL_PYTHON_STARLETTE_EXCLUDED_URLS": _PATTERNS,
    "OTEL_BSP_SCHEDULE_DELAY": _COUNT,
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


def prepare(
    environ: MutableMapping[str, str],
    honoured: Mapping[str, _Check] = HONOURED,
    defaults: Mapping[str, str] = DEFAULTS,
) -> list[str]:
    """Check the variables and fill in defaults; what has no effect is removed, so that no library stumbles over it.

    Args:
        environ: os.environ.
        honoured: see `check`.
        defaults: what holds where a variable is unset.

    Returns:
        What `check` returns.

    Raises:
        WrongVariable: as `check` says.
    """
    told = check(environ, honoured)
    for key in [key for key in environ if key.startswith("OTEL_")]:
        text = environ.pop(key).strip()
        if text and key in honoured:
            environ[key] = text
    for key, text in defaults.items():
        environ.setdefault(key, text)
    # The exporter over gRPC reads a certificate and its key only where both are for all signals, or both for traces.
    for end in _OTLP.keys() - {"ENDPOINT"}:
        if general := environ.pop(f"OTEL_EXPORTER_OTLP_{end}", ""):
            environ.setdefault(f"OTEL_EXPORTER_OTLP_TRACES_{end}", general)
    _send_credentials(environ)
    if environ.get("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "").lower() == "none":
        del environ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"]  # a name that the exporter over gRPC does not know
    return told


def _send_credentials(environ: MutableMapping[str, str]) -> None:
    """Make a header of user and password in the endpoint: gRPC would take them for a part of the host's name."""
    if key := _key(environ, "ENDPOINT"):
        environ[key], authorization = without_credentials(environ[key])
        if authorization is not None:
            given = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "").strip(", ")
            headers = f"{given},authorization={quote(authorization, safe='')}"
            environ["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = headers.removeprefix(",")


def check(environ: Mapping[str, str], honoured: Mapping[str, _Check] = HONOURED) -> list[str]:
    """Return a warning for each OTEL_* variable that has no effect, or a surprising one. Empty values count as unset.

    Args:
        environ: the environment.
        honoured: what has an effect: `HONOURED` or `SIMULATOR`.

    Raises:
        WrongVariable: a value would be misunderstood. It shows no secret.
    """
    given = {key: text.strip() for key, text in environ.items() if key.startswith("OTEL_") and text.strip()}
    for key in given.keys() & honoured.keys():
        _check_one(key, given[key], honoured[key])
    _check_batches(given)
    if _protocol(given) == GRPC:
        _check_grpc(given)
    _check_certificates(given)
    meters = "" if honoured is SIMULATOR else ", and /metrics lacks everything that OpenTelemetry's meters count"
    disabled = [f"OTEL_SDK_DISABLED=true: no spans{meters}"] if is_disabled(given) else []
    unknown, known = given.keys() - honoured.keys(), given.keys() & honoured.keys()
    return [*_without_effect(unknown), *disabled, *_surprising(given), *_without_export(given, known)]


def _check_one(key: str, text: str, check: _Check) -> None:
    try:
        check.parse(text)
    except (ValueError, OSError):
        shown = scheme_of(text) if check is _URL or "://" in text else "***" if check.secret else text
        raise WrongVariable(key, shown, check.accepts) from None


def _check_batches(given: Mapping[str, str]) -> None:
    queue, batch = (int(given.get(key, default)) for key, default in BATCH_DEFAULTS.items())
    if batch > queue:
        key = next(key for key in BATCH_DEFAULTS if key in given)
        raise WrongVariable(
            key, given[key], "OTEL_BSP_MAX_EXPORT_BATCH_SIZE (512) to be no more than OTEL_BSP_MAX_QUEUE_SIZE (2048)"
        )


def _check_grpc(given: Mapping[str, str]) -> None:
    if find_spec("opentelemetry.exporter.otlp.proto.grpc") is None:
        raise WrongVariable(_key(given, "PROTOCOL"), GRPC, "http/protobuf, or the extra: pip install 'calsvc[grpc]'")
    if given.get(_key(given, "COMPRESSION"), "").lower() == "deflate":
        raise WrongVariable(_key(given, "COMPRESSION"), "deflate", "gzip or none, with grpc")
    if not all(map(_METADATA.fullmatch, _headers(given.get(_key(given, "HEADERS"), "")))):
        raise WrongVariable(_key(given, "HEADERS"), "***", "with grpc, names of letters, digits, - _ and .")
    if _key(given, "CLIENT_CERTIFICATE"):
        for end in ("CLIENT_KEY", "CERTIFICATE"):
            _demand(given, "CLIENT_CERTIFICATE", end)


def _check_certificates(given: Mapping[str, str]) -> None:
    if _key(given, "CLIENT_KEY"):
        _demand(given, "CLIENT_KEY", "CLIENT_CERTIFICATE")
    if key := _key(given, "CLIENT_CERTIFICATE"):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
                given[key], given.get(_key(given, "CLIENT_KEY")), password=_no_password
            )
        except (ValueError, OSError):
            accepts = "a PEM file with a certificate, and its key without a password there or in ..._CLIENT_KEY"
            raise WrongVariable(key, given[key], accepts) from None


def _no_password() -> str:
    raise ValueError("nobody could type it")


def _demand(given: Mapping[str, str], end: str, other: str) -> None:
    if not _key(given, other):
        key = _key(given, end)
        raise WrongVariable(key, given[key], f"{key.removesuffix(end)}{other} to be set, too")


def _without_effect(keys: Iterable[str]) -> Iterator[str]:
    for key in sorted(keys):
        if _OF_OTHER_SIGNALS.fullmatch(key):
            yield f"{key} has no effect: {_TRACES_ONLY}"
        elif key.endswith("_INSECURE"):
            yield f"{key} has no effect: http:// or https:// of the endpoint decides"
        else:
            yield f"{key} has no effect"


def _surprising(given: Mapping[str, str]) -> Iterator[str]:
    for key, only in (("OTEL_METRICS_EXPORTER", "prometheus"), ("OTEL_LOGS_EXPORTER", "none")):
        if given.get(key, only).lower() != only:
            yield f"{key}={given[key]} has no effect: {_TRACES_ONLY}"
    sampler = given.get("OTEL_TRACES_SAMPLER", "traceidratio")
    if "OTEL_TRACES_SAMPLER_ARG" in given and "traceidratio" not in sampler.lower():
        yield f"OTEL_TRACES_SAMPLER_ARG has no effect with OTEL_TRACES_SAMPLER={sampler}"


def _without_export(given: Mapping[str, str], known: Iterable[str]) -> Iterator[str]:
    """Name what would only have an effect if spans were exported, by OTLP, to https://."""
    exporters = exporter_names(given)
    is_encrypted = given.get(_key(given, "ENDPOINT"), "").lower().startswith("https:")
    for key in sorted(known):
        if not exporters and (_OF_SPANS.fullmatch(key) or _OF_OTLP.fullmatch(key)):
            yield f"{key} has no effect: no spans are exported"
        elif "otlp" not in exporters and _OF_OTLP.fullmatch(key):
            yield f"{key} has no effect: OTEL_TRACES_EXPORTER does not name otlp"
        elif not is_encrypted and key.endswith(("_CERTIFICATE", "_CLIENT_KEY")):
            yield f"{key} has no effect: the endpoint is not https://"


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Tell whether the SDK is switched off."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def is_instrumented() -> bool:
    """Tell whether `opentelemetry-instrument` started this process: then it makes the spans of all requests itself."""
    if "opentelemetry.instrumentation.starlette" not in sys.modules:
        return False
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor  # noqa: PLC0415

    return bool(StarletteInstrumentor().is_instrumented_by_opentelemetry)


def exporter_names(environ: Mapping[str, str]) -> list[str]:
    """Return what exports spans, `otlp` or `console`: without OTEL_TRACES_EXPORTER, OTLP where an endpoint is named."""
    asked = environ.get("OTEL_TRACES_EXPORTER", "").strip() or ("otlp" if _key(environ, "ENDPOINT") else "none")
    return [] if is_disabled(environ) else [name for name in dict.fromkeys(_names(asked)) if name != "none"]


def span_exporters(environ: Mapping[str, str]) -> "list[Callable[[], SpanExporter]]":
    """Return makers of the exporters that are asked for. They read their own variables."""
    return [partial(_exporter, name, _protocol(environ)) for name in exporter_names(environ)]


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


def _key(environ: Mapping[str, str], end: str) -> str:
    """Return the OTLP variable that holds for spans, by the end of its name; empty where none is set."""
    keys = (f"OTEL_EXPORTER_OTLP_TRACES_{end}", f"OTEL_EXPORTER_OTLP_{end}")
    return next((key for key in keys if environ.get(key, "").strip()), "")


def _protocol(environ: Mapping[str, str]) -> str:
    return environ.get(_key(environ, "PROTOCOL"), "").strip().lower() or "http/protobuf"

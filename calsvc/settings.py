"""The only reader of the environment. `python -m calsvc.settings` prints the table of docs/settings.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from calsvc import values
from calsvc.bearer import EXPECTED, token, token_in
from calsvc.errors import SettingsError
from calsvc.values import Parser, RegisteredModel, StoreAddress
from observability.sampling import (
    HEADERS_EXPECTED,
    PROFILES_EXPECTED,
    Collector,
    Sampling,
    http_url,
    otlp_headers,
    profiles_url,
    spans_url,
)


def _setting(key: str, default: Any, parse: Parser, expected: str, meaning: str) -> Any:
    """Declare one setting: its environment key, its default and, for the docs and the error line, what it accepts."""
    metadata = {"key": key, "parse": parse, "expected": expected, "meaning": meaning}
    return field(default=default, metadata=metadata)


def _secret(key: str, meaning: str, default: Any = "", parse: Parser = str, expected: str = "text") -> Any:
    """Declare a setting that is never shown, not even in a traceback or when it is wrong."""
    metadata = {"key": key, "parse": parse, "expected": expected, "meaning": meaning, "secret": True}
    return field(default=default, repr=False, metadata=metadata)


def _bearer(key: str, parse: Parser, expected: str, meaning: str, **more: bool) -> Any:
    """Declare a place of the bearer token, which is never shown; not even blanks around it are taken for a slip."""
    metadata = {"key": key, "parse": parse, "expected": expected, "meaning": meaning, "verbatim": True, **more}
    return field(default="", repr=False, metadata=metadata)


DAY: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one process was told from outside. Times in seconds, paths as given (relative to the working directory)."""

    host: str = _setting("CALSVC_HOST", "127.0.0.1", values.host, "a host name or address", "address to listen on")
    port: int = _setting(
        "CALSVC_PORT", 8000, values.number(int, 0, 65535), "an integer 0..65535 (0: any free port)", "port"
    )
    admin_port: int | None = _setting(
        "CALSVC_ADMIN_PORT",
        None,
        values.number(int, 0, 65535),
        "an integer 0..65535 (0: any free port)",
        "second port for /metrics, /info and the page, which then are not on the first; unset: all on one",
    )
    admin_host: str = _setting(
        "CALSVC_ADMIN_HOST", "", values.host, "a host name or address", "address of the second port; unset: CALSVC_HOST"
    )
    token: str = _bearer("CALSVC_TOKEN", token, EXPECTED, "bearer token that the calls then ask for", secret=True)
    token_from_file: str = _bearer(
        "CALSVC_TOKEN_FILE", token_in, f"a file whose first line is {EXPECTED}", "file that the token is in"
    )

    @property
    def bearer(self) -> bytes | None:
        """The token that the calls ask for; None: none."""
        return (self.token or self.token_from_file).encode() or None

    handout_dir: Path = _setting(
        "CALSVC_HANDOUT_DIR", Path("handout_from DS_agent"), Path, "a folder", "the data scientist's folder"
    )
    model: Path | RegisteredModel = _setting(
        "CALSVC_MODEL",
        Path("data/bundle"),
        values.model_address,
        "a bundle directory, or models:/NAME@ALIAS",
        "what is served",
    )
    model_poll: float = _setting(
        "CALSVC_MODEL_POLL",
        30.0,
        values.number(float, 0.1, DAY),
        "seconds, 0.1..86400",
        "how often the registry is asked whether an alias has moved",
    )
    tracking_uri: str = _setting(
        "MLFLOW_TRACKING_URI",
        "sqlite:///mlruns/mlflow.db",
        values.tracking_uri,
        "http://..., https://... or sqlite:///PATH",
        "where runs and model versions are kept",
    )
    tracking_token: str = _secret("MLFLOW_TRACKING_TOKEN", "token that the registry asks for")
    tracking_username: str = _secret("MLFLOW_TRACKING_USERNAME", "user that the registry asks for")
    tracking_password: str = _secret("MLFLOW_TRACKING_PASSWORD", "password that the registry asks for")
    store: StoreAddress = _setting(
        "CALSVC_STORE",
        StoreAddress("sqlite", "data/store/waiting.db"),
        values.store_address,
        "memory://, sqlite:///PATH or redis://HOST:PORT/DB (rediss:// with TLS)",
        "where predictions wait for truth",
    )
    feedback_retention: float = _setting(
        "CALSVC_FEEDBACK_RETENTION",
        3600.0,
        values.number(float, 1, 30 * DAY),
        "seconds, 1..2592000",
        "how long a prediction can still be joined",
    )
    feedback_delay: float = _setting(
        "CALSVC_FEEDBACK_DELAY", 300.0, values.number(float, 0, DAY), "seconds, 0..86400", "age at which a label is due"
    )
    quality_window: int = _setting(
        "CALSVC_QUALITY_WINDOW",
        300,
        values.number(int, 1, 3600),
        "whole seconds, 1..3600",
        "length of the rolling window",
    )
    cpu_fraction: float = _setting(
        "CALSVC_CPU_FRACTION", 0.5, values.number(float, 0.01, 1), "a number 0.01..1", "share of the CPU threads to use"
    )
    max_in_flight: int = _setting(
        "CALSVC_MAX_IN_FLIGHT",
        256,
        values.number(int, 1, 100_000),
        "an integer 1..100000",
        "requests at once before 503",
    )
    max_connections: int = _setting(
        "CALSVC_MAX_CONNECTIONS",
        2048,
        values.number(int, 1, 100_000),
        "an integer 1..100000",
        "connections open at once; fewer where the limit of open files leaves no room for them",
    )
    max_pending: int = _setting(
        "CALSVC_MAX_PENDING",
        1_000_000,
        values.number(int, 1, 100_000_000),
        "an integer 1..100000000",
        "predictions remembered at once; the oldest goes first",
    )
    store_backlog: int = _setting(
        "CALSVC_STORE_BACKLOG",
        100_000,
        values.number(int, 1, 100_000_000),
        "an integer 1..100000000",
        "predictions held while a shared store is out of reach, and as many facts to give back to one that forgot",
    )
    store_held: Path = _setting(
        "CALSVC_STORE_HELD", Path("data/store/held"), Path, "a folder", "where what is held outlives its replica"
    )
    drain_delay: float = _setting(
        "CALSVC_DRAIN_DELAY",
        2.0,
        values.number(float, 0, 600),
        "seconds, 0..600",
        "serving on after SIGTERM, not ready",
    )
    otlp_endpoint: str = _setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "", http_url, "http://... or https://...", "collector that takes OTLP over HTTP"
    )
    otlp_traces_endpoint: str = _setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "",
        http_url,
        "http://... or https://..., with its path",
        "the same for spans alone",
    )
    otlp_headers: tuple[tuple[str, str], ...] = _secret(
        "OTEL_EXPORTER_OTLP_HEADERS", "headers that the collector asks for", (), otlp_headers, HEADERS_EXPECTED
    )
    otel_disabled: bool = _setting("OTEL_SDK_DISABLED", False, values.flag, "true or false", "true: no spans leave")
    sampler: str = _setting(
        "OTEL_TRACES_SAMPLER",
        "parentbased_traceidratio",
        values.sampler,
        "always_on, always_off or traceidratio, each also with parentbased_ before it",
        "which requests are traced and logged",
    )
    sampler_ratio: float = _setting(
        "OTEL_TRACES_SAMPLER_ARG",
        0.1,
        values.number(float, 0, 1),
        "a number 0..1",
        "share of requests, for traceidratio",
    )

    @property
    def collector(self) -> Collector | None:
        """Where spans go; None where none leave the process."""
        url = spans_url(self.otlp_endpoint, self.otlp_traces_endpoint)
        return Collector(url, dict(self.otlp_headers)) if url and not self.otel_disabled else None

    profiles_address: str = _setting(
        "PYROSCOPE_SERVER_ADDRESS",
        "",
        profiles_url,
        PROFILES_EXPECTED,
        "Pyroscope server that gets profiles (needs the extra `profiling`); unset: none are made",
    )

    @property
    def trace_sampling(self) -> Sampling:
        """Which requests leave a span and a log line."""
        kind = self.sampler.removeprefix("parentbased_")
        ratio = {"always_on": 1.0, "always_off": 0.0}.get(kind, self.sampler_ratio)
        return Sampling(parent_based=kind != self.sampler, ratio=ratio)

    @property
    def bundle_path(self) -> Path:
        """Where `just train` publishes: the bundle directory that is served, or its default beside a registry."""
        return self.model if isinstance(self.model, Path) else Path("data/bundle")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read every setting from `environ`; an empty value counts as unset.

        Raises:
            SettingsError: naming key, value and what is accepted.
        """
        values = {}
        for each in fields(cls):
            text = environ.get(each.metadata["key"], "")
            text = text if each.metadata.get("verbatim") else text.strip()
            if text:
                values[each.name] = _parsed(each.metadata, text)
        return cls(**values)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other: one says why it cannot go with the other."""
        if self.token and self.token_from_file:
            raise SettingsError("CALSVC_TOKEN_FILE", "...", "to be unset where CALSVC_TOKEN is set")
        if self.admin_port and self.admin_port == self.port:
            raise SettingsError("CALSVC_ADMIN_PORT", str(self.admin_port), "another port than CALSVC_PORT")
        if self.feedback_retention <= self.feedback_delay:
            raise SettingsError(
                "CALSVC_FEEDBACK_RETENTION",
                f"{self.feedback_retention:g}",
                f"more than CALSVC_FEEDBACK_DELAY, which is {self.feedback_delay:g}",
            )


def _parsed(metadata: Mapping[str, Any], text: str) -> Any:
    try:
        return metadata["parse"](text)
    except (ValueError, OverflowError):
        shown = "***" if "secret" in metadata else values.masked(text)
        raise SettingsError(metadata["key"], shown, metadata["expected"]) from None


def markdown_table() -> str:
    """Return the settings as the Markdown table of docs/settings.md."""
    rows = ["| key | default | accepts | meaning |", "|---|---|---|---|"]
    for each in fields(Settings):
        about = each.metadata
        rows.append(f"| `{about['key']}` | {_shown(each.default)} | {about['expected']} | {about['meaning']} |")
    return "\n".join(rows)


def _shown(default: Any) -> str:
    """Return a default as somebody would write it into the environment."""
    if default in ("", (), None):
        return "unset"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    print(markdown_table())

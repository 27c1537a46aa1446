"""Settings: read once, refused clearly."""

from pathlib import Path

import pytest

from calsvc.errors import SettingsError
from calsvc.settings import Settings
from calsvc.threads import cpu_threads, thread_caps
from calsvc.values import IN_MEMORY, RegisteredModel


def test_an_empty_environment_gives_the_documented_defaults():
    """Nothing has to be set."""
    settings = Settings.from_env({})
    assert (settings.host, settings.port, settings.feedback_delay) == ("127.0.0.1", 8000, 300.0)
    assert settings.handout_dir == Path("handout_from DS_agent")


def test_every_key_is_read():
    """Each setting takes its value from its own key."""
    environ = {
        "CALSVC_HOST": "0.0.0.0",  # noqa: S104 - only parsed
        "CALSVC_PORT": "9000",
        "CALSVC_HANDOUT_DIR": "/some where/else",
        "CALSVC_MODEL": "b",
        "CALSVC_MODEL_POLL": "5",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
        "MLFLOW_TRACKING_TOKEN": "t",
        "MLFLOW_TRACKING_USERNAME": "u",
        "MLFLOW_TRACKING_PASSWORD": "p",
        "CALSVC_STORE": "memory://",
        "CALSVC_FEEDBACK_RETENTION": "7200",
        "CALSVC_FEEDBACK_DELAY": "5.5",
        "CALSVC_QUALITY_WINDOW": "60",
        "CALSVC_CPU_FRACTION": "1",
        "CALSVC_MAX_IN_FLIGHT": "7",
        "CALSVC_MAX_CONNECTIONS": "9",
        "CALSVC_MAX_PENDING": "8",
        "CALSVC_STORE_BACKLOG": "9",
        "CALSVC_DRAIN_DELAY": "0",
    }
    assert Settings.from_env(environ) == Settings(
        host="0.0.0.0",  # noqa: S104
        port=9000,
        handout_dir=Path("/some where/else"),
        model=Path("b"),
        model_poll=5.0,
        tracking_uri="http://127.0.0.1:5000",
        tracking_token="t",  # noqa: S106
        tracking_username="u",
        tracking_password="p",  # noqa: S106
        store=IN_MEMORY,
        feedback_retention=7200.0,
        feedback_delay=5.5,
        quality_window=60,
        cpu_fraction=1.0,
        max_in_flight=7,
        max_connections=9,
        max_pending=8,
        store_backlog=9,
        drain_delay=0.0,
    )


def test_a_model_may_be_an_alias_of_the_registry():
    """models:/NAME@ALIAS is taken apart; bundles of this process still have a place of their own."""
    settings = Settings.from_env({"CALSVC_MODEL": "models:/calories@champion"})
    assert settings.model == RegisteredModel("calories", "champion")
    assert str(settings.model) == "models:/calories@champion"
    assert settings.bundle_path == Path("data/bundle")


@pytest.mark.parametrize(
    ("text", "kind", "where"),
    [
        ("memory://", "memory", ""),
        ("sqlite:///a folder/waiting.db", "sqlite", "a folder/waiting.db"),
        ("sqlite:////var/lib/waiting.db", "sqlite", "/var/lib/waiting.db"),
        ("redis://127.0.0.1:6379/0", "redis", "redis://127.0.0.1:6379/0"),
        ("rediss://store", "redis", "rediss://store"),
        ("redis://[::1]:6379", "redis", "redis://[::1]:6379"),
    ],
)
def test_a_store_is_an_address(text: str, kind: str, where: str):
    """Its kind and its place; and it is shown as it was set."""
    store = Settings.from_env({"CALSVC_STORE": text}).store
    assert store == (kind, where)
    assert str(store) == text


def test_a_password_in_an_address_is_not_shown():
    """Neither in the line that refuses it nor in what settings look like."""
    with pytest.raises(SettingsError, match=r"^CALSVC_STORE='redis://\*\*\*@host/name': expected") as caught:
        Settings.from_env({"CALSVC_STORE": "redis://me:hunter2@host/name"})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Settings.from_env({"CALSVC_STORE": "redis://me:hunter2@host/0"}))


def test_secrets_are_not_in_the_repr():
    """What prints settings by mistake prints no password."""
    environ = {"MLFLOW_TRACKING_PASSWORD": "hunter2", "MLFLOW_TRACKING_TOKEN": "hunter3"}
    assert "hunter" not in repr(Settings.from_env(environ))


def test_an_empty_value_counts_as_unset():
    """A compose file that passes an empty variable on changes nothing."""
    assert Settings.from_env({"CALSVC_PORT": "", "CALSVC_HOST": "  "}) == Settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CALSVC_PORT", "http"),
        ("CALSVC_PORT", "65536"),
        ("CALSVC_PORT", "8000.5"),
        ("CALSVC_HOST", "my host"),
        ("CALSVC_STORE", "postgres://x"),
        ("CALSVC_STORE", "memory"),
        ("CALSVC_STORE", "sqlite://waiting.db"),
        ("CALSVC_STORE", "sqlite:///"),
        ("CALSVC_STORE", "redis:///0"),
        ("CALSVC_STORE", "redis://host:port"),
        ("CALSVC_STORE", "redis://host:0"),
        ("CALSVC_STORE", "redis://host/name"),
        ("CALSVC_STORE_BACKLOG", "0"),
        ("CALSVC_FEEDBACK_DELAY", "nan"),
        ("CALSVC_FEEDBACK_DELAY", "-1"),
        ("CALSVC_FEEDBACK_RETENTION", "inf"),
        ("CALSVC_QUALITY_WINDOW", "0.5"),
        ("CALSVC_CPU_FRACTION", "0"),
        ("CALSVC_CPU_FRACTION", "50%"),
        ("CALSVC_MAX_IN_FLIGHT", "0"),
        ("CALSVC_MAX_PENDING", "1e6"),
        ("CALSVC_DRAIN_DELAY", "soon"),
        ("CALSVC_MODEL", "models:/calories"),
        ("CALSVC_MODEL", "models:/calories/3"),
        ("CALSVC_MODEL_POLL", "0"),
        ("MLFLOW_TRACKING_URI", "localhost:5000"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://127.0.0.1:4317"),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_accepted(key: str, value: str):
    """One line says which variable is wrong, what it holds and what it may hold."""
    with pytest.raises(SettingsError, match=rf"^{key}='{value}': expected \S.*$") as caught:
        Settings.from_env({key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        "token",
        "=value",
        "a=1,token",
        "na me=1",
        "a=gr\u00fcn",
        "a=gr%C3%BCn",
        "a=1%0Ab",
        "n\u00e4me=1",
        "a=1%00",
        "a:=1",
    ],
)
def test_a_header_that_cannot_be_sent_is_said_without_its_value(headers: str):
    """In one line at the start; what is in it may be secret."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"OTEL_EXPORTER_OTLP_HEADERS": headers})
    assert str(caught.value) == "OTEL_EXPORTER_OTLP_HEADERS='***': expected NAME=VALUE,NAME=VALUE, in ASCII"


def test_a_retention_shorter_than_the_delay_is_refused():
    """A store that forgets before labels are due would never match anything."""
    with pytest.raises(SettingsError, match=r"CALSVC_FEEDBACK_RETENTION.*CALSVC_FEEDBACK_DELAY"):
        Settings.from_env({"CALSVC_FEEDBACK_RETENTION": "300"})


@pytest.mark.parametrize(("fraction", "cpus", "threads"), [(0.5, 8, 4), (0.5, 1, 1), (0.5, 3, 1), (1.0, 2, 2)])
def test_half_the_threads_at_least_one(fraction: float, cpus: int, threads: int):
    """The share is rounded down and never 0."""
    assert cpu_threads(fraction, cpus) == threads


def test_thread_caps_leave_what_the_user_has_set():
    """A variable that is set already keeps its value."""
    caps = thread_caps(0.5, {"OMP_NUM_THREADS": "3"}, available=8)
    assert (caps["OMP_NUM_THREADS"], caps["MKL_NUM_THREADS"]) == ("3", "4")


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_spans_leave_only_where_a_collector_is_named(environ: dict[str, str], wanted: bool):
    """Without an endpoint tracing is off and costs nothing."""
    assert (Settings.from_env(environ).collector is not None) is wanted

"""Settings: read once, refused clearly."""

import re
import traceback
from functools import cache
from pathlib import Path

import pytest
from pydantic import ValidationError

from calsvc.http.errors import SettingsError
from calsvc.model.threads import cpu_threads, thread_caps
from calsvc.registry.address import RegisteredModel
from calsvc.settings import NOT_SETTINGS, Settings
from tests.conftest import run_module

ROOT = Path(__file__).parents[1]
READ = ("calsvc", "deploy", "observability", "streamsim", "tests")
"""Folders of what reads or sets variables."""


@cache
def named_in_the_repository() -> set[str]:
    """Each CALSVC_ variable that some file names, but for those that this file makes up."""
    files = [file for folder in READ for file in (ROOT / folder).rglob("*") if file.is_file()]
    texts = [file.read_bytes() for file in files if file != Path(__file__) and "__pycache__" not in file.parts]
    return {name.decode() for text in texts for name in re.findall(rb"\bCALSVC_[A-Z_]+[A-Z]\b", text)}


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
        "CALSVC_STORE": "memory://",
        "CALSVC_FEEDBACK_RETENTION": "7200",
        "CALSVC_FEEDBACK_DELAY": "5.5",
        "CALSVC_QUALITY_WINDOW": "60",
        "CALSVC_CPU_FRACTION": "1",
        "CALSVC_MAX_IN_FLIGHT": "7",
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
        store="memory://",
        feedback_retention=7200.0,
        feedback_delay=5.5,
        quality_window=60,
        cpu_fraction=1.0,
        max_in_flight=7,
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
    "address",
    [
        "memory://",
        "sqlite:///a folder/waiting.db",
        "sqlite:////var/lib/waiting.db",
        "redis://127.0.0.1:6379/0",
        "rediss://store",
        "redis://[::1]:6379",
        "redis://:p@ss@host",
        "redis://:p%40ss%2F%23%3F@host:6379/0",
        "REDISS://host",
        "rediss://host/0?ssl_cert_reqs=none&ssl_certfile=client.pem",
    ],
)
def test_a_store_is_an_address(address: str):
    """It is kept as it was set."""
    assert Settings.from_env({"CALSVC_STORE": address}).store.get_secret_value() == address


@pytest.mark.parametrize(
    ("key", "address", "shown"),
    [
        ("CALSVC_STORE", "redis://:s3cret/pass@h:6379/0", "redis://..."),
        ("CALSVC_STORE", "redis://:p@s3cret@host/name", "redis://..."),
        ("CALSVC_STORE", "postgres://me:s3cret@host", "postgres://..."),
        ("CALSVC_STORE", "me:s3cret@host", "***"),
        ("CALSVC_STORE", "redis://me:12?s3cret@host:6379/0", "redis://..."),  # the host would be `me`, the port 12
        ("CALSVC_STORE", "redis://me:12#s3cret@host:6379/0", "redis://..."),
        ("CALSVC_STORE", "redis://me:12/s3cret@host:6379/0", "redis://..."),
        ("CALSVC_STORE", "REDIS://:s3cret/pass@host", "REDIS://..."),
        ("CALSVC_STORE", "redis://:s3cret@[::1/0", "redis://..."),
        ("CALSVC_STORE", "redis://:s3cret@ho\\st/0", "redis://..."),
        ("CALSVC_STORE", "redis://host/0?password=s3cret&socket_timeout=long", "redis://..."),
        ("CALSVC_STORE", "redis://host/0?passwort=s3cret", "redis://..."),
        ("CALSVC_STORE", "redis://host/name", "redis://..."),
        ("CALSVC_STORE", "redis://host:0", "redis://..."),
        ("CALSVC_STORE", "redis://host:port", "redis://..."),
        ("CALSVC_STORE", "redis:///0", "redis://..."),
        ("CALSVC_STORE", "sqlite:///", "sqlite://..."),
        ("CALSVC_STORE", "sqlite://waiting.db", "sqlite://..."),
        ("CALSVC_STORE", "memory", "***"),
        ("CALSVC_STORE", "postgres://x", "postgres://..."),
        ("MLFLOW_TRACKING_URI", "http://me:s3cret/pass@host", "http://..."),
        ("MLFLOW_TRACKING_URI", "http://me:s3cret@host:port", "http://..."),
        ("MLFLOW_TRACKING_URI", "http://me:12/s3cret@host:5000", "http://..."),
        ("MLFLOW_TRACKING_URI", "http://me:12?s3cret@host:5000", "http://..."),
        ("MLFLOW_TRACKING_URI", "http://me:12#s3cret@host:5000", "http://..."),
        ("MLFLOW_TRACKING_URI", 'http://me:s3cret@ho"st', "http://..."),
        ("MLFLOW_TRACKING_URI", "http://me:s3cret@a..b", "http://..."),
        ("MLFLOW_TRACKING_URI", "HTTPS://me:s3cret@[::1", "HTTPS://..."),
        ("MLFLOW_TRACKING_URI", "http://me:s3 cret@host", "http://..."),
        ("MLFLOW_TRACKING_URI", "http://me:s3cret@", "http://..."),
        ("MLFLOW_TRACKING_URI", "localhost:5000", "***"),
        ("CALSVC_MODEL", "http://me:s3cret@host/model", "http://..."),
        ("CALSVC_HOST", "http://me:s3cret@host", "http://..."),
        ("CALSVC_PORT", "http://me:s3cret@host", "http://..."),
        ("PYROSCOPE_SERVER_ADDRESS", "http://me:s3cret@host:4040", "http://..."),
        ("PYROSCOPE_SERVER_ADDRESS", "http://me:s3cret/pass@host:4040", "http://..."),
    ],
)
def test_a_wrong_address_is_shown_as_its_scheme(key: str, address: str, shown: str):
    """Where a password ends cannot be known in an address that cannot be parsed; nor does a cause repeat it."""
    with pytest.raises(SettingsError, match=rf"^{key}={re.escape(repr(shown))}: expected") as caught:
        Settings.from_env({key: address})
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    "address",
    [
        "http://me:p%40ss%2F%23%3F@host:5000",
        "HTTP://me:p@ss@host",
        "https://[fe80::1%25eth0]:5000",
        "http://ho_st/x%40y",
    ],
)
def test_a_server_of_runs_is_an_address(address: str):
    """In any case, of any kind of host, with what a password holds written as in every URL."""
    assert Settings.from_env({"MLFLOW_TRACKING_URI": address}).tracking_uri.get_secret_value() == address


SECRETS = {
    "CALSVC_TOKEN": "hunter1",
    "CALSVC_STORE": "redis://:p@hunter2@host/0",
    "MLFLOW_TRACKING_URI": "http://me:hunter3@host",
}


def test_secrets_are_not_shown():
    """Not by what prints, logs or copies settings."""
    settings = Settings.from_env(SECRETS)
    shown = (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json())
    assert not [text for text in shown if "hunter" in text]


def test_settings_that_are_wrong_in_code_are_not_shown_either():
    """The error of pydantic names the setting, and holds no value."""
    with pytest.raises(ValidationError, match="store") as caught:
        Settings(store="redis://me:hunter2@host/name")
    assert "hunter2" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("CALSVC_FEEDBACK_DELY", "did you mean CALSVC_FEEDBACK_DELAY?"),
        ("CALSVC_STOR", "did you mean CALSVC_STORE?"),
        ("CALSVC_MAX_INFLIGHT", "did you mean CALSVC_MAX_IN_FLIGHT?"),
        ("CALSVC_COLOUR", "docs/settings.md lists them"),
    ],
)
def test_a_misspelt_variable_is_an_error(key: str, advice: str):
    """It names the nearest setting, or the page of all; one that is empty counts as unset, as any other."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({key: "60"})
    assert str(caught.value) == f"{key} is no setting; {advice}"
    assert Settings.from_env({key: ""}) == Settings()


def test_a_misspelt_variable_stops_the_start(tmp_path: Path):
    """With one line and exit code 2."""
    stopped = run_module(tmp_path, "calsvc", CALSVC_FEEDBACK_DELY="60")
    said = "error: CALSVC_FEEDBACK_DELY is no setting; did you mean CALSVC_FEEDBACK_DELAY?\n"
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (2, "", said)


@pytest.mark.parametrize("key", sorted(NOT_SETTINGS))
def test_a_variable_that_others_read_is_left_alone(key: str):
    """Whoever exports one for compose or the tests can still start the service; and the repository names it."""
    assert Settings.from_env({key: "1"}) == Settings()
    assert key in named_in_the_repository()


def test_every_variable_of_the_repository_is_known():
    """A CALSVC_ variable is a setting, or it is declared whose it is."""
    assert named_in_the_repository() - set(Settings.variables()) == set(NOT_SETTINGS)


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch):
    """Only the mapping that is given."""
    monkeypatch.setenv("CALSVC_PORT", "9000")
    assert Settings.from_env({}).port == Settings().port == 8000


def test_settings_cannot_be_changed():
    """A copy with another value is another object."""
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 9000  # type: ignore[misc]
    assert (settings.model_copy(update={"port": 9000}).port, settings.port) == (9000, 8000)


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
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_accepted(key: str, value: str):
    """One line says which variable is wrong, what it holds and what it may hold."""
    with pytest.raises(SettingsError, match=rf"^{key}='{value}': expected \S.*$") as caught:
        Settings.from_env({key: value})
    assert "\n" not in str(caught.value)


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

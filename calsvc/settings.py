"""The only reader of the environment. `python -m calsvc.settings` prints the table of docs/settings.md.

`probe.py` alone reads two of these variables itself: to import pydantic takes longer than all that it does.
"""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, Secret, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from calsvc.feedback.address import check_store
from calsvc.http import HOST, PORT
from calsvc.http.errors import SettingsError, UnknownSetting
from calsvc.http.token import EXPECTED, FILE_EXPECTED, check_token, token_in
from calsvc.registry.address import RegisteredModel, check_tracking, model_address
from observability import addresses
from observability.addresses import scheme_of
from observability.paths import given_place

PREFIX: Final = "CALSVC_"
NOT_SETTINGS: Final = {
    "CALSVC_CPUS": "compose: CPUs of one replica",
    "CALSVC_GIT_SHA": "compose: commit in the image",
    "CALSVC_PROXY_BIND": "HAProxy: where it listens",
    "CALSVC_PROXY_CLIENT_TIMEOUT": "HAProxy: how long a client may read nothing",
    "CALSVC_PROXY_CONNECTIONS": "HAProxy: most connections",
    "CALSVC_PROXY_CONNECTIONS_PER_SOURCE": "HAProxy: most connections of one client address",
    "CALSVC_PROXY_IDLE_TIMEOUT": "HAProxy: how long a connection may be idle",
    "CALSVC_PROXY_REQUEST_TIMEOUT": "HAProxy: how long a head may take, and a body",
    "CALSVC_PUBLISHED": "compose: port on this machine",
    "CALSVC_REAL_DATA": "tests: file of labelled rows",
    "CALSVC_REPLICAS": "compose: number of replicas",
    "CALSVC_TAG": "compose: tag of the images",
    "CALSVC_VERSION": "compose: version in the image",
}
"""Variables with the prefix that others read, which whoever starts a service may have exported: for what each is."""
PLACES: Final = frozenset(
    {
        *("CALSVC_HANDOUT_DIR", "CALSVC_MODEL", "CALSVC_STORE", "CALSVC_STORE_HELD", "CALSVC_TOKEN_FILE"),
        "MLFLOW_TRACKING_URI",
    }
)
"""Settings that are paths, or can be."""
DAY: Final = 86400


class Address(Secret[str]):
    """A URL that may hold a user and a password: shown as its scheme."""

    def _display(self) -> str:
        return scheme_of(self.get_secret_value())


def _checked(check: Callable[[str], object]) -> AfterValidator:
    """Return a validator of a secret that may be unset. `check` raises ValueError for a text that is not accepted."""

    def validate(secret: Any) -> Any:
        if text := secret.get_secret_value():
            check(text)
        return secret

    return AfterValidator(validate)


def _setting(key: str, default: Any, accepts: str, meaning: str, **constraints: Any) -> Any:
    """Declare one setting: its environment key, its default and, for the docs and the error line, what it accepts."""
    about: dict[str, Any] = {"accepts": accepts.format(**constraints)}
    return Field(default, validation_alias=key, description=meaning, json_schema_extra=about, **constraints)


class Settings(BaseSettings):
    """What one process was told from outside. Times in seconds, relative paths from the working directory."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    host: str = _setting("CALSVC_HOST", HOST, "a host name or address", "address to listen on", pattern=r"^[^\s/@]*$")
    port: int = _setting("CALSVC_PORT", PORT, "an integer {ge}..{le} (0: any free port)", "port", ge=0, le=65535)
    admin_port: int | None = _setting(
        "CALSVC_ADMIN_PORT",
        None,
        "an integer {ge}..{le} (0: any free port)",
        "second port for /metrics, /info and the page, which then are not on the first; unset: all on one",
        ge=0,
        le=65535,
    )
    admin_host: str = _setting(
        "CALSVC_ADMIN_HOST",
        "",
        "a host name or address",
        "address of the second port; unset: CALSVC_HOST",
        pattern=r"^[^\s/@]*$",
    )
    token: Annotated[SecretStr, _checked(check_token)] = _setting(
        "CALSVC_TOKEN", "", EXPECTED, "bearer token that the calls then ask for"
    )
    token_from_file: Annotated[SecretStr, BeforeValidator(token_in)] = _setting(
        "CALSVC_TOKEN_FILE", "", FILE_EXPECTED, "file that the token is in"
    )

    @property
    def bearer(self) -> bytes | None:
        """The token that the calls ask for; None: none."""
        return (self.token or self.token_from_file).get_secret_value().encode() or None

    handout_dir: Path = _setting(
        "CALSVC_HANDOUT_DIR", "handout_from DS_agent", "a folder", "the data scientist's folder"
    )
    model: Annotated[Path | RegisteredModel, BeforeValidator(model_address)] = _setting(
        "CALSVC_MODEL", "data/bundle", "a bundle directory, or models:/NAME@ALIAS", "what is served"
    )
    model_poll: float = _setting(
        "CALSVC_MODEL_POLL",
        30,
        "seconds, {ge}..{le}",
        "how often the registry is asked whether an alias has moved",
        ge=0.1,
        le=DAY,
    )
    tracking_uri: Annotated[Address, _checked(check_tracking)] = _setting(
        "MLFLOW_TRACKING_URI",
        "sqlite:///mlruns/mlflow.db",
        "http://..., https://... or sqlite:///PATH",
        "where runs and model versions are kept",
    )
    store: Annotated[Address, _checked(check_store)] = _setting(
        "CALSVC_STORE",
        "sqlite:///data/store/waiting.db",
        "memory://, sqlite:///PATH or redis://HOST:PORT/DB (rediss:// with TLS)",
        "where predictions wait for truth",
    )
    feedback_retention: float = _setting(
        "CALSVC_FEEDBACK_RETENTION",
        3600,
        "seconds, {ge}..{le}",
        "how long a prediction can still be joined",
        ge=1,
        le=30 * DAY,
    )
    feedback_delay: float = _setting(
        "CALSVC_FEEDBACK_DELAY", 300, "seconds, {ge}..{le}", "age at which a label is due", ge=0, le=DAY
    )
    quality_window: int = _setting(
        "CALSVC_QUALITY_WINDOW", 300, "whole seconds, {ge}..{le}", "length of the rolling window", ge=1, le=3600
    )
    cpu_fraction: float = _setting(
        "CALSVC_CPU_FRACTION", 0.5, "a number {ge}..{le}", "share of the CPU threads to use", ge=0.01, le=1
    )
    max_in_flight: int = _setting(
        "CALSVC_MAX_IN_FLIGHT", 256, "an integer {ge}..{le}", "requests at once before 503", ge=1, le=100_000
    )
    max_pending: int = _setting(
        "CALSVC_MAX_PENDING",
        1_000_000,
        "an integer {ge}..{le}",
        "predictions remembered at once; the oldest goes first",
        ge=1,
        le=100_000_000,
    )
    store_backlog: int = _setting(
        "CALSVC_STORE_BACKLOG",
        100_000,
        "an integer {ge}..{le}",
        "predictions held while a shared store is out of reach, and as many facts to give back to one that forgot",
        ge=1,
        le=100_000_000,
    )
    store_held: Path = _setting(
        "CALSVC_STORE_HELD", "data/store/held", "a folder", "where what is held outlives its replica"
    )
    drain_delay: float = _setting(
        "CALSVC_DRAIN_DELAY", 2, "seconds, {ge}..{le}", "serving on after SIGTERM, not ready", ge=0, le=600
    )
    profiles_address: Annotated[Address, _checked(addresses.profiles_url)] = _setting(
        "PYROSCOPE_SERVER_ADDRESS",
        "",
        addresses.PROFILES_EXPECTED,
        "Pyroscope server that gets profiles (needs the extra `profiling`); unset: none are made",
    )

    @property
    def bundle_path(self) -> Path:
        """Where `just train` publishes: the bundle directory that is served, or its default beside a registry."""
        return self.model if isinstance(self.model, Path) else Path("data/bundle")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller alone: neither the process's environment nor a file is read unasked."""
        return (init_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read every setting from `environ`; an empty value counts as unset.

        Raises:
            SettingsError: naming key, value and what is accepted; or the variable that is no setting.
        """
        keys = cls.variables()
        given = {
            key: text if key.startswith("CALSVC_TOKEN") else text.strip()  # blanks around a token are no slip
            for key, text in environ.items()
            if key in keys or (key.startswith(PREFIX) and key not in NOT_SETTINGS)
        }
        given = {key: given_place(text, environ) if key in PLACES else text for key, text in given.items() if text}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = str(wrong["loc"][0])  # outside of `except`: a traceback has no library's text about a secret
        if key not in keys:
            raise UnknownSetting(key, _advice(key, keys))
        raise SettingsError(key, _shown(keys[key], given[key]), _accepts(keys[key]))

    @classmethod
    def variables(cls) -> dict[str, FieldInfo]:
        """Return the declaration of each setting, by the name of its variable."""
        return {str(each.validation_alias): each for each in cls.model_fields.values()}

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
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
        return self


def _advice(key: str, keys: Iterable[str]) -> str:
    names = [each.removeprefix(PREFIX) for each in keys if each.startswith(PREFIX)]
    near = get_close_matches(key.removeprefix(PREFIX), names, n=1)
    return f"did you mean {PREFIX}{near[0]}?" if near else "docs/settings.md lists them"


def _shown(setting: FieldInfo, text: str) -> str:
    """Return what an error line may say of a value."""
    if setting.annotation is SecretStr:
        return "***"
    return scheme_of(text) if setting.annotation is Address or "://" in text else text


def _accepts(setting: FieldInfo) -> str:
    about: Any = setting.json_schema_extra
    return str(about["accepts"])


def markdown_table() -> str:
    """Return the settings as the Markdown table of docs/settings.md."""
    rows = ["| key | default | accepts | meaning |", "|---|---|---|---|"]
    for key, each in Settings.variables().items():
        default = "unset" if each.default in ("", None) else f"`{each.default}`"
        rows.append(f"| `{key}` | {default} | {_accepts(each)} | {each.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())

"""The token: who has none is told so before anything is read, and nobody sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from calsvc.http.errors import SettingsError
from calsvc.settings import Settings
from tests.conftest import run_module
from tests.http.test_schema import WORKOUT, workout
from tests.test_app import JSON, Service, running

TOKEN = "s3cret-word"  # noqa: S105 - made up
RIGHT = JSON | {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def guarded(bundle: Path) -> Iterator[Service]:
    """A service that asks for the token."""
    yield from running(bundle, token=TOKEN)


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
@pytest.mark.parametrize(
    "sent",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", f"Basic {TOKEN}")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", f"Bearer {TOKEN[:-1]}")],
        [("Authorization", f"Bearer {TOKEN.upper()}")],
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")],
        [("Authorization", "Bearer \xfc")],
    ],
    ids=str,
)
def test_without_the_token_nothing_is_parsed_or_counted(guarded: Service, path: str, sent: list[tuple[str, str]]):
    """401 with its challenge, whatever the body is."""
    before = guarded.numbers()
    headers = [*JSON.items(), *((name, value.encode("latin-1")) for name, value in sent)]
    for body in (workout(), b"{", b"x" * 2**17):
        answer = guarded.client.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert TOKEN not in answer.text
    assert guarded.numbers() == before


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_token_all_is_as_before(guarded: Service, scheme: str):
    """The name of the scheme may be written in any case."""
    headers = JSON | {"Authorization": f"{scheme} {TOKEN}"}
    assert guarded.client.post("/predict", json=WORKOUT, headers=headers).status_code == 200
    truth = {"id": WORKOUT["id"], "Calories": 100}
    assert guarded.client.post("/feedback", json=truth, headers=headers).status_code == 200
    assert guarded.client.post("/predict", content=b"{", headers=headers).status_code == 400


def test_everything_else_asks_for_no_token(guarded: Service):
    """Probes and scrapes go on; where they must not be seen there is a second port."""
    for path in ("/healthz", "/livez", "/readyz", "/metrics", "/info", "/openapi.json", "/"):
        assert guarded.client.get(path).status_code == 200


def test_the_document_says_who_asks_for_a_token(guarded: Service, bundle: Path):
    """Only where it is asked for."""
    document = guarded.client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path in ("/predict", "/feedback"):
        operation = document["paths"][path]["post"]
        assert operation["security"] == [{"token": []}]
        assert "401" in operation["responses"]
    for service in running(bundle):
        open_to_all = service.client.get("/openapi.json").text
        assert "401" not in open_to_all
        assert "bearer" not in open_to_all


def test_the_token_is_shown_nowhere(guarded: Service, tmp_path: Path):
    """Not by what prints settings, not by /info, /metrics or the page, not where it is wrong."""
    settings = guarded.state.settings
    shown = [repr(settings), *(guarded.client.get(path).text for path in ("/info", "/metrics", "/openapi.json", "/"))]
    assert not [text for text in shown if TOKEN in text]
    stopped = run_module(tmp_path, "calsvc", CALSVC_TOKEN=f"{TOKEN} {TOKEN}")
    assert (stopped.returncode, stopped.stdout) == (2, "")
    assert stopped.stderr == "error: CALSVC_TOKEN='***': expected printable ASCII without blanks\n"


def test_a_file_may_hold_the_token(tmp_path: Path):
    """Its first line, without the end of it."""
    file = tmp_path / "token"
    for text in (f"{TOKEN}\n", TOKEN, f"{TOKEN}\r\nanother line\n"):
        file.write_bytes(text.encode())
        settings = Settings.from_env({"CALSVC_TOKEN_FILE": str(file)})
        assert settings.bearer == TOKEN.encode()
        assert TOKEN not in repr(settings)


@pytest.mark.parametrize(
    "content", [b"", b"\n" + TOKEN.encode(), b" a", b"a b", b"a\t", "ü".encode(), b"\xff", b"\0", None]
)
def test_a_file_without_a_token_stops_the_start(tmp_path: Path, content: bytes | None):
    """The line names the file, and not what is in it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=str(file)) as caught:
        Settings.from_env({"CALSVC_TOKEN_FILE": str(file)})
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("value", [" ", "a b", " a", "a\n", "ü", "\x7f"])
def test_a_token_that_no_header_could_carry_stops_the_start(value: str):
    """Blanks too: a service that someone meant to guard does not start open."""
    with pytest.raises(SettingsError, match="CALSVC_TOKEN="):
        Settings.from_env({"CALSVC_TOKEN": value})


def test_one_of_the_two_is_enough(tmp_path: Path):
    """Which of them would hold cannot be guessed."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with pytest.raises(SettingsError, match="CALSVC_TOKEN_FILE"):
        Settings.from_env({"CALSVC_TOKEN_FILE": str(file), "CALSVC_TOKEN": "another"})
    assert Settings.from_env({"CALSVC_TOKEN": ""}).bearer is None
    assert Settings.from_env({"CALSVC_TOKEN": TOKEN}).bearer == TOKEN.encode()

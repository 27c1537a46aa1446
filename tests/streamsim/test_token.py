"""The token that the service asks for: sent with every request, and shown nowhere."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import pytest
from aiohttp import web

from streamsim.cli import DEFAULT_URL, make_plan, parser, resume_command
from streamsim.client import open_client
from streamsim.environ import token_of
from streamsim.errors import DemoFailed, SettingError
from streamsim.service import fetch
from streamsim.service_view import read_metrics
from tests.conftest import Workshop, run_module
from tests.local_collector import LocalCollector
from tests.service_process import service_process
from tests.serving import serving
from tests.streamsim.fakes import CountingService, make_rows
from tests.streamsim.test_process import environ_of, result

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-of-the-house"  # noqa: S105
QUICK = ("--cycles", "1", "--rps", "20", "--on", "1", "--off", "0", "--feedback-delay", "0.1")


def test_the_environment_says_it_or_names_a_file_that_does(tmp_path: Path):
    """The variable first; of the file the first line; nothing where neither is set."""
    file = tmp_path / "a token"
    file.write_text(f"{SECRET}\r\nrotated yesterday\n")
    assert token_of({}, DEFAULT_URL) is None
    assert token_of({"CALSVC_TOKEN": " ", "CALSVC_TOKEN_FILE": ""}, DEFAULT_URL) is None
    assert token_of({"CALSVC_TOKEN": f" {SECRET} "}, DEFAULT_URL) == SECRET
    assert token_of({"CALSVC_TOKEN_FILE": str(file)}, DEFAULT_URL) == SECRET
    assert token_of({"CALSVC_TOKEN": "other", "CALSVC_TOKEN_FILE": str(file)}, DEFAULT_URL) == "other"


@pytest.mark.parametrize(
    ("environ", "content", "said"),
    [
        ({"CALSVC_TOKEN": f"{SECRET} twice"}, "", r"^CALSVC_TOKEN=\*\*\*: expected printable ASCII without spaces$"),
        ({"CALSVC_TOKEN": f"{SECRET}é"}, "", r"^CALSVC_TOKEN=\*\*\*: expected"),
        ({"CALSVC_TOKEN_FILE": "no such file"}, "", r"^CALSVC_TOKEN_FILE='no such file': expected a file whose first"),
        ({"CALSVC_TOKEN_FILE": "."}, "", r"^CALSVC_TOKEN_FILE='\.': expected a file"),
        ({"CALSVC_TOKEN_FILE": "token"}, f"\n{SECRET}\n", r"^CALSVC_TOKEN_FILE='token': expected a file"),
        ({"CALSVC_TOKEN_FILE": "token"}, f"{SECRET} twice\n", r"^CALSVC_TOKEN_FILE='token': expected a file"),
    ],
)
def test_what_cannot_be_a_token_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], content: str, said: str
):
    """One line that names the variable and what is accepted."""
    monkeypatch.chdir(tmp_path)
    Path("token").write_text(content)
    with pytest.raises(SettingError, match=said) as refused:
        token_of(environ, DEFAULT_URL)
    assert SECRET not in str(refused.value)


def test_a_user_in_the_address_excludes_a_token():
    """Both would be sent in the same place."""
    with pytest.raises(SettingError, match=r"^CALSVC_TOKEN: --url names a user"):
        token_of({"CALSVC_TOKEN": SECRET}, "http://me:secret@127.0.0.1:8000")


def test_a_plan_does_not_show_it():
    """Whoever prints one, in a traceback for example."""
    plan = make_plan(parser().parse_args(["stream"]), None)
    assert "token" not in repr(plan)


@pytest.mark.anyio
async def test_every_request_carries_it(service: CountingService):
    """Predictions and truths, over kept connections and fresh ones; without one there is no such header."""
    for token, sent in ((SECRET, f"Bearer {SECRET}"), (None, None)):
        async with open_client(service.url, 5, token=token) as client:
            await client.predict(make_rows(1).record(0))
            await client.feedback("1", 1.0)
        assert service.authorizations == [sent] * 2
        service.authorizations.clear()


def everything_in(folder: Path) -> bytes:
    """All bytes of all files."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.anyio
async def test_a_service_that_asks_for_it_gets_it_and_nobody_else_sees_it(
    service: CountingService, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A whole run with everything that it can write: exit code 0, and the token in none of it."""
    service.token = SECRET
    with serving(LocalCollector()) as collector:
        monkeypatch.setenv("CALSVC_TOKEN", SECRET)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for number, log in enumerate(("text", "json")):
            code, said = await result(
                tmp_path, "stream", "--url", service.url, "--data", str(csv), *QUICK, "--log", log,
                "--record", f"out/{number}.ndjson", "--report", f"out/{number}.json", "--seed", str(number),
            )  # fmt: skip
            assert code == 0, said
            assert SECRET not in said
        code, said = await result(
            tmp_path, "stress", "20", "--duration", "1", "--feedback-delay", "0.1", "--url", service.url,
            "--data", str(csv), "--p99", "20s", "--report", "out",
        )  # fmt: skip
        assert (code, SECRET in said) == (0, False), said
        posted = b"".join(collector.posted)
    assert b"POST /predict" in posted
    written = everything_in(tmp_path)
    assert b"acknowledged" in written
    assert SECRET.encode() not in posted + written
    assert set(service.authorizations) == {f"Bearer {SECRET}"}


@pytest.mark.anyio
async def test_user_and_password_of_the_address_are_sent_and_shown_nowhere(
    service: CountingService, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By predictions, truths and what reads the metrics, past a proxy; the command for the rest says where they go."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    where = ("--url", service.url.replace("://", f"://me:{SECRET}%40%C5%82@"), "--data", str(csv))
    stream = ("stream", *where, *QUICK[:-1], "60", "--speed", "60", "--record", "out/record")
    code, said = await result(tmp_path, *stream, "--report", "out/report.json")
    assert (code, SECRET in said) == (0, False), said
    stress = ("stress", "20", "--duration", "1", "--feedback-delay", "0.1", *where, "--p99", "20s", "--report", "out")
    code, said = await result(tmp_path, *stress)
    assert (code, SECRET in said) == (0, False), said
    assert f"<small>{service.url}</small>" in (tmp_path / "out" / "report.html").read_text()
    assert SECRET.encode() not in everything_in(tmp_path)
    basic = base64.b64encode(f"me:{SECRET}@ł".encode()).decode()
    assert set(service.authorizations) == {f"Basic {basic}"}
    plan = make_plan(parser().parse_args(["stream", *where]), None)
    assert f"--url {service.url.replace('://', '://USER:PASSWORD@')} " in resume_command(plan)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "case",
    [
        ("", "it asks for a token; set CALSVC_TOKEN, or CALSVC_TOKEN_FILE to a file that holds it"),
        ("another", "it does not take the token of CALSVC_TOKEN (or CALSVC_TOKEN_FILE)"),
    ],
)
async def test_without_the_right_one_a_run_says_once_what_is_missing(
    service: CountingService, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str]
):
    """Every record fails with http_4xx, and is asked for once; one line names the variable."""
    service.token, (token, hint) = SECRET, case
    monkeypatch.setenv("CALSVC_TOKEN", token)
    code, said = await result(tmp_path, "stream", "--url", service.url, "--data", str(csv), *QUICK)
    assert code == 1
    assert "20 http_4xx" in said
    assert said.count(f"streamsim: the service answered 401: {hint}") == said.count("CALSVC_TOKEN=") + 1 == 1
    assert len(service.authorizations) == 20


@pytest.mark.anyio
async def test_truths_that_were_refused_for_want_of_it_stay_owed(
    service: CountingService, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The service begins to ask for a token when the predictions are made; `--resume` with it delivers them all."""

    async def close_the_door(path: str, number: int) -> None:
        if (path, number) == ("predict", 20):
            service.token = SECRET

    service.gate = close_the_door
    where = ("--url", service.url, "--journal", "owed.db")
    code, said = await result(tmp_path, "stream", *where, "--data", str(csv), *QUICK[:-1], "2", "--grace", "0.5")
    assert code == 1
    assert "20 truths are still owed" in said
    monkeypatch.setenv("CALSVC_TOKEN", SECRET)
    code, said = await result(tmp_path, "stream", *where, "--resume")
    assert (code, service.statuses) == (0, {"matched": 20}), said


# --- what is fetched beside ------------------------------------------------------------------------------------------


@asynccontextmanager
async def fenced(url: str) -> AsyncIterator[tuple[str, list[str | None]]]:
    """The service at `url` behind a proxy that asks for the token; yields the proxy's URL and what was sent to it."""
    sent: list[str | None] = []

    async def forward(request: web.Request) -> web.Response:
        sent.append(request.headers.get("Authorization"))
        if sent[-1] != f"Bearer {SECRET}":
            return web.Response(status=401)
        headers = {"Content-Type": request.headers.get("Content-Type", "text/plain")}
        body = await request.read()
        async with session.request(request.method, url + request.path, data=body, headers=headers) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}", sent
    finally:
        await runner.cleanup()


@pytest.mark.anyio
async def test_the_demonstration_works_with_it(workshop: Workshop, tmp_path: Path):
    """Against a service behind a fence: its numbers are read, and they agree; without it the reason is 401."""
    with service_process(tmp_path, workshop.environ() | {"CALSVC_FEEDBACK_DELAY": "5"}) as service:
        async with fenced(service.url) as (url, sent):

            def demo(**environ: str) -> tuple[int, str]:
                ended = run_module(
                    workshop.folder, "streamsim", "demo", "--url", url, "--duration", "2", **environ_of(), **environ
                )
                return ended.returncode, ended.stdout + ended.stderr

            code, said = await anyio.to_thread.run_sync(lambda: demo(CALSVC_TOKEN=SECRET))
            assert code == 0, said
            assert "All numbers agree." in said
            assert set(sent) == {f"Bearer {SECRET}"}
            code, said = await anyio.to_thread.run_sync(demo)
            assert (code, "HTTP Error 401" in said) == (1, True), said


@pytest.mark.anyio
async def test_metrics_are_fetched_with_it_and_it_goes_nowhere_else():
    """A service that sends the caller elsewhere does not hand on its token."""

    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{there}/metrics")

    async with fenced("http://127.0.0.1:1") as (there, sent):
        app = web.Application()
        app.router.add_get("/metrics", redirect)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            with pytest.raises(DemoFailed, match="401"):
                await anyio.to_thread.run_sync(fetch, f"{url}/metrics", SECRET)
            assert await anyio.to_thread.run_sync(read_metrics, url, SECRET) == {}
        finally:
            await runner.cleanup()
    assert sent == [None, None]

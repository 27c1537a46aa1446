"""Every outcome of a request has a name and none raises, against real sockets that misbehave."""

import json
import re
import ssl
from pathlib import Path

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSListener

from streamsim.answers import Answer, Cause, is_traced
from streamsim.client import open_client
from tests.streamsim.fakes import CountingService, http_answer, make_rows, raw_server, read_request

pytestmark = pytest.mark.anyio
RECORD = make_rows(1).record(0)
GOOD = b'{"id":1,"Calories":12.5}'


async def ask(url: str, patience: float = 5.0) -> Answer:
    """Ask for one prediction on a new client."""
    async with open_client(url, patience) as client:
        return await client.predict(RECORD)


async def test_a_good_answer_is_ok_and_carries_what_was_received(service: CountingService):
    """The record arrives as JSON with a W3C trace context, and the number comes back."""
    answer = await ask(service.url)
    assert answer.cause is Cause.OK
    assert answer.document == {"id": 1, "Calories": 10.5}
    assert service.bodies == [json.loads(RECORD.body)]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", service.traceparents[0])


async def test_a_record_and_its_truth_are_both_traced_or_neither_is(service: CountingService):
    """One record in ten, whichever client sends the truth."""
    asked = []
    async with open_client(service.url, 5) as client:
        for number in range(200):
            await client.feedback(str(number), 7.5)
            asked.append(service.feedback_traceparents[-1].endswith("-01"))
    assert asked == [is_traced(str(number)) for number in range(200)]
    assert 5 <= sum(asked) <= 40


async def test_feedback_tells_the_four_answers_apart(service: CountingService):
    """Matched, duplicate, conflict and unknown, as the contract says."""
    async with open_client(service.url, 5) as client:
        await client.predict(RECORD)
        first, again = await client.feedback("1", 7.5), await client.feedback("1", 7.5)
        conflict, unknown = await client.feedback("1", 8.0), await client.feedback('"1"', 7.5)
    assert first.document == {"id": 1, "status": "matched"}
    assert again.document == {"id": 1, "status": "duplicate"}
    assert (conflict.status, unknown.status) == (409, 404)
    assert service.truths == {1: 7.5}


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (http_answer(b"{}", "503 Service Unavailable", "Retry-After: 7\r\n"), Cause.HTTP_503),
        (http_answer(b"{}", "500 Internal Server Error"), Cause.HTTP_5XX),
        (http_answer(b"{}", "422 Unprocessable Content"), Cause.HTTP_4XX),
        (http_answer(b"", "302 Found", "Location: /elsewhere\r\n"), Cause.BAD_ANSWER),
        (http_answer(b"{"), Cause.BAD_ANSWER),
        (http_answer(b"[1]"), Cause.BAD_ANSWER),
        (http_answer(b"[" * 60_000), Cause.BAD_ANSWER),
        (http_answer(b'{"id":2,"Calories":12.5}'), Cause.BAD_ANSWER),
        (http_answer(b'{"id":"1","Calories":12.5}'), Cause.BAD_ANSWER),
        (http_answer(b'{"id":true,"Calories":12.5}'), Cause.BAD_ANSWER),
        (http_answer(b'{"id":1,"Calories":NaN}'), Cause.BAD_ANSWER),
        (http_answer(b'{"id":1,"Calories":1e400}'), Cause.BAD_ANSWER),
        (http_answer(b'{"id":1,"Calories":true}'), Cause.BAD_ANSWER),
        (http_answer(b'{"id":1,"Calories":' + b"9" * 400 + b"}"), Cause.BAD_ANSWER),
        (http_answer(b'{"id":1,"Calories":12.5,"more":"' + b"x" * 70_000 + b'"}'), Cause.BAD_ANSWER),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Cause.BAD_ANSWER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", Cause.CLOSED),
        (b"", Cause.CLOSED),
    ],
)
async def test_what_a_server_answers_is_named(answer: bytes, cause: Cause):
    """One answer, then the server closes."""

    async def handle(stream: SocketStream) -> None:
        await read_request(stream)
        await stream.send(answer)

    async with raw_server(handle) as url:
        given = await ask(url)
    assert given.cause is cause
    assert given.retry_after == (7 if cause is Cause.HTTP_503 else 0)


async def test_a_server_that_is_down_refuses():
    """Nothing listens on the port any more."""

    async def never(_stream: SocketStream) -> None:
        raise AssertionError

    async with raw_server(never) as url:
        pass
    assert (await ask(url)).cause is Cause.REFUSED


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64 + ".invalid", "a..b"])
async def test_a_name_that_leads_nowhere_refuses(host: str, capsys: pytest.CaptureFixture[str]):
    """An unknown one, and ones that cannot even be asked for; a line says why."""
    assert (await ask(f"http://{host}:1")).cause is Cause.REFUSED
    assert re.fullmatch(r"streamsim: .*(nobody\.invalid|label).*\n", capsys.readouterr().err)


async def test_why_there_is_no_connection_is_told_once(capsys: pytest.CaptureFixture[str]):
    """The certificate is of an unknown authority: not that nothing listens. No password is shown."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def never(_stream: object) -> None:
        raise AssertionError

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with TLSListener(plain, context) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, never)
        port = plain.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
        async with open_client(f"https://me:s3cret@localhost:{port}", 5.0) as client:
            answers = [await client.predict(RECORD), await client.feedback("1", 7.5)]
        group.cancel_scope.cancel()
    assert [each.cause for each in answers] == [Cause.REFUSED] * 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "certificate verify failed: unable to get local issuer certificate" in line
    assert f"localhost:{port}" in line
    assert "s3cret" not in line


async def test_a_server_that_never_answers_times_out():
    """Patience ends, also when the answer has begun."""

    async def handle(stream: SocketStream) -> None:
        await read_request(stream)
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await anyio.sleep_forever()

    async with raw_server(handle) as url:
        assert (await ask(url, patience=0.05)).cause is Cause.TIMEOUT


async def test_a_stale_idle_connection_is_no_error():
    """A server that hangs up on the second request of each connection is asked once more, on a new one."""
    connections: list[int] = []

    async def handle(stream: SocketStream) -> None:
        connections.append(0)
        await read_request(stream)
        await stream.send(http_answer(GOOD))
        await read_request(stream)  # and close without a byte

    async with raw_server(handle) as url, open_client(url, 5) as client:
        answers = [await client.predict(RECORD) for _ in range(4)]
        assert [answer.cause for answer in answers] == [Cause.OK] * 4
        assert client.resent == 2
    assert len(connections) == 4


async def test_a_new_connection_that_is_closed_is_an_error():
    """A server that closes every connection unanswered is not asked twice."""
    requests: list[object] = []

    async def handle(stream: SocketStream) -> None:
        requests.append(await read_request(stream))

    async with raw_server(handle) as url:
        assert (await ask(url)).cause is Cause.CLOSED
    assert len(requests) == 1


async def test_an_answer_that_has_begun_is_not_asked_for_again():
    """A reused connection that breaks in the middle of an answer is closed, and that is all."""
    requests: list[object] = []

    async def handle(stream: SocketStream) -> None:
        requests.append(await read_request(stream))
        await stream.send(http_answer(GOOD))
        requests.append(await read_request(stream))
        await stream.send(http_answer(GOOD)[:-5])

    async with raw_server(handle) as url, open_client(url, 5) as client:
        assert (await client.predict(RECORD)).cause is Cause.OK
        assert (await client.predict(RECORD)).cause is Cause.CLOSED
        assert client.resent == 0
    assert len(requests) == 2


async def test_a_path_in_front_of_the_service_is_kept(service: CountingService, tmp_path: Path):
    """The address may end with a slash or name a prefix; an unknown one is the server's 404."""
    assert (await ask(service.url + "/")).cause is Cause.OK
    assert (await ask(f"{service.url}/{tmp_path.name}")).status == 404

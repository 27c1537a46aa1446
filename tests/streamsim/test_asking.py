"""A record is asked for until an answer stands or its time is over, against real sockets that fail in passing."""

import os
import resource
from collections import Counter

import anyio
import pytest
from aiohttp import web
from anyio.abc import SocketStream

from streamsim.answers import Answer, Cause
from streamsim.asking import MAX_WAITING, Asker
from streamsim.client import open_client
from streamsim.clocks import Clocks
from streamsim.tally import Tally
from tests.streamsim.fakes import CountingService, http_answer, make_rows, raw_server, read_request

pytestmark = pytest.mark.anyio
RECORD = make_rows(1).record(0)
GOOD = b'{"id":1,"Calories":12.5}'


async def ask(url: str, patience: float = 5.0, *, again: bool = True) -> tuple[Answer, Counter[Cause]]:
    """Ask for one prediction; return what came of it, and the tries before that."""
    tally = Tally()
    async with open_client(url, patience) as client:
        answer = await Asker(client, tally, Clocks(), patience, again=again).ask(RECORD)
    return answer, tally.prediction_retries


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ("503 Service Unavailable", Cause.HTTP_503),
        ("502 Bad Gateway", Cause.HTTP_5XX),
        ("429 Too Many Requests", Cause.HTTP_4XX),
    ],
)
async def test_a_failure_in_passing_is_followed_by_another_try(status: str, cause: Cause):
    """Two pages of a proxy that reaches nobody, then the prediction: acknowledged, and both tries are counted."""
    asked: list[object] = []

    async def handle(stream: SocketStream) -> None:
        while True:
            asked.append(await read_request(stream))
            page = http_answer(b"<html>come back later</html>", status, "Content-Type: text/html\r\n")
            await stream.send(page if len(asked) <= 2 else http_answer(GOOD))

    async with raw_server(handle) as url:
        answer, tried = await ask(url)
    assert answer.cause is Cause.OK
    assert tried == {cause: 2}
    assert asked == [asked[0]] * 3


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500])
async def test_what_the_service_has_decided_is_not_asked_again(service: CountingService, status: int):
    """One request, and its answer stands."""

    async def refuse(_path: str, _number: int) -> web.Response:
        return web.Response(status=status)

    service.gate = refuse
    answer, tried = await ask(service.url)
    assert (answer.status, tried, service.requests["predict"]) == (status, {}, 1)


async def test_a_bad_answer_is_not_asked_again(service: CountingService):
    """Neither another's page with 200 nor another record's prediction."""

    async def another(_path: str, number: int) -> web.Response:
        return web.json_response({"id": 2, "Calories": 1.0}) if number == 1 else web.Response(text="<html>")

    service.gate = another
    for number in (1, 2):
        answer, tried = await ask(service.url)
        assert (answer.cause, tried, service.requests["predict"]) == (Cause.BAD_ANSWER, {}, number)


@pytest.mark.slow
async def test_a_replica_that_hangs_leaves_time_for_another_one():
    """The first connection is taken and never answered, the second one is served: one try timed out, in a third."""
    connections: list[int] = []

    async def handle(stream: SocketStream) -> None:
        connections.append(0)
        await read_request(stream)
        if len(connections) == 1:
            await anyio.sleep_forever()
        await stream.send(http_answer(GOOD))

    async with raw_server(handle) as url:
        answer, tried = await ask(url, patience=3)
    assert (answer.cause, tried, len(connections)) == (Cause.OK, {Cause.TIMEOUT: 1}, 2)


@pytest.mark.slow
async def test_a_server_that_trickles_has_no_more_time_than_one_that_hangs():
    """A byte now and then keeps a try alive no longer; the last word is a timeout."""

    async def handle(stream: SocketStream) -> None:
        await read_request(stream)
        for byte in http_answer(GOOD.ljust(1000)):
            await stream.send(bytes([byte]))
            await anyio.sleep(0.01)  # the trickle itself

    async with raw_server(handle) as url:
        answer, tried = await ask(url, patience=1.5)
    assert answer.cause is Cause.TIMEOUT
    assert set(tried) == {Cause.TIMEOUT}


@pytest.mark.slow
async def test_the_deadline_ends_the_tries(service: CountingService):
    """A service that is never ready is asked some times, not for ever, and what it said last stands."""

    async def never(_path: str, _number: int) -> web.Response:
        return web.Response(status=503)

    service.gate = never
    answer, tried = await ask(service.url, patience=2)
    assert answer.cause is Cause.HTTP_503
    assert 1 <= tried[Cause.HTTP_503] == service.requests["predict"] - 1 <= 5


async def test_more_patience_than_there_is_time_for_is_not_waited_for(service: CountingService):
    """Retry-After beyond the deadline: the answer stands at once."""

    async def later(_path: str, _number: int) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "60"})

    service.gate = later
    with anyio.fail_after(10):
        answer, tried = await ask(service.url, patience=30)
    assert (answer.cause, tried, service.requests["predict"]) == (Cause.HTTP_503, {}, 1)


async def test_who_judges_the_service_asks_once(service: CountingService):
    """Without retries the first failure stands."""

    async def busy(_path: str, _number: int) -> web.Response:
        return web.Response(status=503)

    service.gate = busy
    answer, tried = await ask(service.url, again=False)
    assert (answer.cause, tried, service.requests["predict"]) == (Cause.HTTP_503, {}, 1)


async def test_a_crowd_of_records_does_not_wait_for_another_try(
    service: CountingService, monkeypatch: pytest.MonkeyPatch
):
    """With room for three, the failures of the other seven stand: retries must not become a load of their own."""
    assert MAX_WAITING == 500
    monkeypatch.setattr("streamsim.asking.MAX_WAITING", 3)
    answers, tally = list[Answer](), Tally()

    async def busy(_path: str, number: int) -> web.Response | None:
        return web.Response(status=503) if number <= 10 else None

    service.gate = busy
    async with open_client(service.url, 5) as client, anyio.create_task_group() as group:
        asker = Asker(client, tally, Clocks(), 5, again=True)

        async def one() -> None:
            answers.append(await asker.ask(RECORD))

        for _ in range(10):
            group.start_soon(one)
    assert Counter(answer.cause for answer in answers) == {Cause.HTTP_503: 7, Cause.OK: 3}
    assert tally.prediction_retries == {Cause.HTTP_503: 3}


async def test_a_name_that_nobody_knows_is_asked_for_again_and_then_refused():
    """A failure of DNS is one like any other."""
    answer, tried = await ask("http://nobody.invalid:1", patience=1)
    assert answer.cause is Cause.REFUSED
    assert tried[Cause.REFUSED] >= 1


async def test_a_record_that_has_left_once_is_never_one_that_was_not_sent(service: CountingService):
    """No file descriptor is left for the second try: what became of the first one stands."""

    async def busy(_path: str, _number: int) -> web.Response:
        return web.Response(status=503, headers={"Connection": "close"})

    service.gate = busy
    tally, usual = Tally(), resource.getrlimit(resource.RLIMIT_NOFILE)
    answers: list[Answer] = []

    async def ask_in_need() -> None:
        answers.append(await Asker(client, tally, Clocks(), 5, again=True).ask(RECORD))

    async with open_client(service.url, 5) as client, anyio.create_task_group() as group:
        group.start_soon(ask_in_need)
        while not tally.prediction_retries:
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()  # its connection is closed
        probe = os.dup(0)
        os.close(probe)
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe, usual[1]))
        try:
            while not answers:
                await anyio.lowlevel.checkpoint()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert (answers[0].cause, service.requests["predict"]) == (Cause.HTTP_503, 1)

"""Promises under faults: processes that are stopped and killed, services and proxies that come and go."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from anyio.abc import Process

from streamsim.answers import Cause
from streamsim.arrivals import Schedule
from streamsim.journal import open_journal
from streamsim.run import run
from streamsim.summary import Summary
from tests.streamsim.fakes import CountingService, Silence, make_plan, serving
from tests.streamsim.test_process import ENDLESS, ended, result, simulator

pytestmark = pytest.mark.slow

WRITE_FOR_EVER = """
import itertools, sys
from contextlib import suppress
from pathlib import Path
from streamsim.journal import open_journal
with open_journal(Path(sys.argv[1])) as journal:
    print([int(owed.id_json) for owed in journal], journal.note, flush=True)
    for n in itertools.count(int(sys.argv[2])):
        row = journal.intend(str(n), n + 0.5, 1e9, 1e9 + 300)
        journal.acknowledge(row, 1.0, 1e9, 1e9 + 300)
        if n % 3 == 0:
            journal.forget(row)
        print(n, flush=True)
"""
"""Says at first what it has found, then each number whose row is as it is to stay."""


@pytest.mark.anyio
async def test_a_simulator_that_is_stopped_loses_nothing(service: CountingService, csv: Path, tmp_path: Path):
    """Stopped for longer than a record's time, with requests in flight that are never answered.

    Late records leave at once, what was in flight is asked for again, and every truth arrives.
    """
    stopped = anyio.Event()

    async def hold(path: str, number: int) -> None:
        if path == "predict" and number > 50 and not stopped.is_set():
            await anyio.sleep_forever()

    service.gate = hold
    async with simulator(
        tmp_path, "stream", "--url", service.url, "--data", str(csv), "--rps", "50", "--on", "4", "--off", "0",
        "--cycles", "1", "--feedback-delay", "0.5", "--timeout", "2", "--grace", "1", "--report", "report.json",
    ) as process:  # fmt: skip
        await service.until(lambda: service.requests["predict"] >= 60)
        process.send_signal(signal.SIGSTOP)
        stopped.set()
        await anyio.sleep(5)  # the stop itself
        process.send_signal(signal.SIGCONT)
        code, said = await ended(process)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (code, report["planned"], report["acknowledged"]) == (0, 200, 200), said
    assert report["prediction_retries"]["timeout"] >= 5
    assert set(service.truths) == set(service.predicted)
    assert len(service.truths) == 200
    assert report["milliseconds"]["schedule_lag"]["max"] > 3000


# --- killed, again and again ------------------------------------------------------------------------------------------


def careless(luck: random.Random) -> Callable[[str, int], Awaitable[web.Response | None]]:
    """A service that is busy or slow now and then, or a proxy before it that reaches nobody."""

    async def gate(_path: str, _number: int) -> web.Response | None:
        if luck.random() < 0.8:
            return None
        status = luck.choice([503, 502, 404, 0])
        if status:
            return web.Response(status=status, text="<html>", content_type="text/html")
        await anyio.sleep(0.05)  # the slowness itself
        return None

    return gate


async def busy_or_gone(service: CountingService, process: Process, requests: int) -> None:
    """Wait for so many requests, or for the end of a process that had less to send."""
    async with anyio.create_task_group() as group:

        async def first(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            group.cancel_scope.cancel()

        group.start_soon(first, process.wait)
        group.start_soon(first, lambda: service.until(lambda: service.requests.total() >= requests))


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(3))
async def test_kill_9_at_any_moment_and_resume_until_all_is_settled(
    service: CountingService, csv: Path, tmp_path: Path, seed: int
):
    """Whatever the simulator has recorded as acknowledged gets its truth; some get it twice, none another's."""
    luck = random.Random(seed)
    service.gate = careless(luck)
    where = ("--url", service.url, "--journal", "owed.db", "--record", "record.ndjson")
    stream = ("stream", *where, "--data", str(csv), "--feedback-delay", "0.3", *ENDLESS, "--grace", "60")
    more: tuple[str, ...] = ()
    for _ in range(4):
        wanted = service.requests.total() + luck.randint(1, 150)
        async with simulator(tmp_path, *stream, *more) as process:
            await busy_or_gone(service, process, wanted)
            with suppress(ProcessLookupError):
                process.kill()
            code, said = await ended(process)
        assert code in {-signal.SIGKILL, 0}, said
        assert "Traceback" not in said
        assert "damaged" not in said
        more = ("--resume", *(("--duration", "60") if luck.random() < 0.5 else ()))
    code, said = await result(tmp_path, "stream", *where, "--resume", "--grace", "60")
    assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "record.ndjson").read_text().splitlines()]
    acknowledged = {line["id"] for line in lines if line["event"] == "prediction"}
    assert acknowledged
    assert acknowledged <= service.truths.keys()
    assert service.statuses["conflict"] == 0
    assert {line["status"] for line in lines if line["event"] == "feedback"} <= {"matched", "duplicate", "unknown"}
    with open_journal(tmp_path / "owed.db") as journal:
        assert len(journal) == 0


@pytest.mark.parametrize("seed", range(2))
def test_a_journal_keeps_what_its_process_has_written_before_it_was_killed(tmp_path: Path, seed: int):
    """Killed twelve times in the middle of writing: nothing is missing, and nothing looks damaged."""
    luck, written, begun = random.Random(seed), set[int](), set[int]()
    for life in range(12):
        first = 10_000 * life + 1
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path / "owed.db"), str(first)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            found = set(json.loads(process.stdout.readline()))  # nothing but a list: there is no note
            told = [process.stdout.readline() for _ in range(luck.randint(1, 400))]
            process.kill()
            told += process.stdout.read().splitlines(keepends=True)
        owed = {n for n in written if n % 3}
        assert owed <= found <= owed | begun  # what one was at when it was killed may be there, or not
        numbers = {int(line) for line in told if line.endswith(b"\n")}
        written |= numbers
        begun.add(max(numbers) + 1)


# --- services and proxies ---------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_outage_that_is_shorter_than_a_records_time_costs_none(tmp_path: Path):
    """The service goes in the middle of a stream and comes back a second later: every record is acknowledged."""
    service, outcome = CountingService(), list[Summary]()

    async def stream() -> None:
        plan = make_plan(service.url, tmp_path, Schedule(100, 2, cycles=1), timeout=10.0, grace=20.0)
        outcome.append(await run(plan, Silence()))

    async with anyio.create_task_group() as group:
        async with serving(service):
            group.start_soon(stream)
            await service.until(lambda: len(service.predicted) >= 50)
        port = int(service.url.rpartition(":")[2])
        await anyio.sleep(1)  # the outage itself
        async with serving(service, port):
            await service.until(lambda: len(service.truths) == 200)
            while not outcome:
                await anyio.lowlevel.checkpoint()
    totals = outcome[0].totals
    assert (totals.planned, totals.acknowledged, totals.errors) == (200, 200, {})
    assert totals.prediction_retries[Cause.REFUSED] >= 20
    assert sum(totals.delivered.values()) == 200


@pytest.mark.anyio
async def test_a_proxy_that_reaches_nobody_settles_no_truth(service: CountingService, tmp_path: Path):
    """Pages that say 502 or 404 instead of the service: the truths wait for it."""

    async def pages(path: str, number: int) -> web.Response | None:
        if path == "predict" or number > 80:
            return None
        return web.Response(status=502 if number % 2 else 404, text="<html>nobody</html>", content_type="text/html")

    service.gate = pages
    plan = make_plan(service.url, tmp_path, Schedule(200, 0.1, 0.1, cycles=2), grace=20.0)
    totals = (await run(plan, Silence())).totals
    assert (totals.delivered, totals.given_up) == ({"matched": 40}, {})
    assert totals.retries == {"http_5xx": 40, "http_4xx": 40}

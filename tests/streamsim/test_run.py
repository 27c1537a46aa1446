"""Whole runs in this process: the loop stays open, the totals add up, and no server ends a run."""

import json
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from streamsim.answers import Cause
from streamsim.arrivals import Schedule, offsets
from streamsim.clocks import Clocks
from streamsim.errors import JournalLocked
from streamsim.journal import open_journal
from streamsim.report import compute, read_record
from streamsim.run import MAX_IN_FLIGHT, Plan, run
from streamsim.stress import Thresholds, judge_stress
from streamsim.summary import Summary, as_json, disagreement, judge
from streamsim.tally import Tally
from tests.streamsim.fakes import CountingService, Silence, make_plan, make_rows, raw_server, serving

pytestmark = pytest.mark.anyio
FAST = Schedule(200, 0.1, 0.1, cycles=2)  # 40 records in 0.3 s


async def streamed(plan: Plan) -> Summary:
    """Run a plan and check that its totals add up."""
    summary = await run(plan, Silence())
    totals = summary.totals
    assert totals.in_flight == 0
    assert totals.sent == totals.acknowledged + sum(totals.errors.values()) + totals.interrupted
    assert totals.planned == totals.sent + totals.not_sent
    assert disagreement(summary) == ""
    with open_journal(plan.journal) as journal:
        assert len(journal) == totals.owed + summary.earlier
    return summary


async def test_every_record_is_predicted_and_every_truth_delivered_once(service: CountingService, tmp_path: Path):
    """A good service gets 40 records and their 40 truths, and the record says the same."""
    plan = make_plan(service.url, tmp_path, FAST, record=tmp_path / "record.ndjson")
    summary = await streamed(plan)
    assert (summary.totals.acknowledged, summary.totals.delivered, summary.totals.owed) == (40, {"matched": 40}, 0)
    assert service.truths == {n: float(n) for n in range(1, 41)}
    report = compute(read_record(tmp_path / "record.ndjson"))
    errors = [(math.log1p((n + 20) / 2) - math.log1p(n)) ** 2 for n in range(1, 41)]
    assert report.rmsle == pytest.approx(math.sqrt(sum(errors) / 40), abs=1e-12)
    assert (report.acknowledged, report.joined, report.coverage) == (40, 40, 1.0)
    assert report.lag_mean is not None
    assert report.lag_mean >= plan.feedback_delay
    assert len(set(service.traceparents)) == 40
    assert judge(summary, 0.0).exit_code == 0


async def test_rows_start_over_with_ids_of_their_own(service: CountingService, tmp_path: Path):
    """Forty records out of three rows are forty ids, each joined with its row's truth."""
    await streamed(make_plan(service.url, tmp_path, FAST, rows=make_rows(3)))
    assert len(service.truths) == 40
    assert service.truths[2] == service.truths["2.1"] == service.truths["2.12"] == 2.0


async def test_a_stalled_service_does_not_hold_arrivals_back(service: CountingService, tmp_path: Path):
    """Open loop: all records leave while the service is frozen, and p99 shows the second for which it stays so."""

    async def frozen(path: str, number: int) -> None:
        if path == "predict" and number >= 10:
            await thawed.wait()

    async def thaw() -> None:
        await service.until(lambda: service.requests["predict"] == 80)
        await anyio.sleep(1)
        thawed.set()

    thawed, schedule = anyio.Event(), Schedule(100, 0.8, 0, cycles=1)
    service.gate = frozen
    async with anyio.create_task_group() as group:
        group.start_soon(thaw)
        summary = await streamed(make_plan(service.url, tmp_path, schedule))
    assert summary.totals.planned == summary.totals.acknowledged == len(list(offsets(schedule))) == 80
    assert summary.timings.from_planned.p99 is not None
    assert summary.timings.from_planned.p99 >= 900


@pytest.mark.parametrize(
    ("status", "cause"), [(503, Cause.HTTP_503), (500, Cause.HTTP_5XX), (422, Cause.HTTP_4XX), (200, Cause.BAD_ANSWER)]
)
async def test_a_service_that_fails_now_and_then_is_counted_and_never_ends_the_run(
    service: CountingService, tmp_path: Path, status: int, cause: Cause
):
    """Every fourth prediction fails, once asked: ten errors, thirty truths owed and delivered, 25 % in the verdict."""

    async def fail(path: str, number: int) -> web.Response | None:
        return web.Response(status=status) if path == "predict" and number % 4 == 0 else None

    service.gate = fail
    summary = await streamed(make_plan(service.url, tmp_path, FAST, retry=False))
    assert summary.totals.errors == {cause: 10}
    assert summary.totals.prediction_retries == {}
    assert summary.totals.delivered == {"matched": 30}
    assert judge(summary, 24.9).exit_code == 99
    assert judge(summary, 25.0).exit_code == 0


async def test_a_record_that_is_tried_again_counts_once_from_its_planned_time(service: CountingService, tmp_path: Path):
    """The first ten requests are refused: forty acknowledged all the same, ten retries, and latency tells of them."""

    async def not_ready(path: str, number: int) -> web.Response | None:
        return web.Response(status=503) if path == "predict" and number <= 10 else None

    service.gate = not_ready
    summary = await streamed(make_plan(service.url, tmp_path, FAST))
    totals = summary.totals
    assert (totals.planned, totals.acknowledged, totals.errors) == (40, 40, {})
    assert totals.prediction_retries == {Cause.HTTP_503: 10}
    assert service.requests["predict"] == 50
    assert totals.delivered == {"matched": 40}
    assert summary.timings.from_planned.max is not None
    assert summary.timings.from_planned.max > 250  # the shortest pause
    assert as_json(summary, judge(summary, None))["prediction_retries"] == {"http_503": 10}


async def test_a_service_that_hangs_up_or_is_slow_is_counted(service: CountingService, tmp_path: Path):
    """A timeout counts as one, and its duration counts in the latency."""

    async def hang(path: str, number: int) -> None:
        if path == "predict" and number == 5:
            await anyio.sleep_forever()

    service.gate = hang
    summary = await streamed(make_plan(service.url, tmp_path, FAST, timeout=0.5, retry=False))
    assert summary.totals.errors == {Cause.TIMEOUT: 1}
    assert summary.timings.from_sent.max is not None
    assert summary.timings.from_sent.max > 250  # of the 500 ms of patience, which begin a moment before the sending


@pytest.mark.slow
async def test_a_service_that_is_down_ends_with_could_not_run(tmp_path: Path):
    """Forty refusals, each of them tried again until its time was over, nothing owed, exit code 1."""
    async with raw_server(lambda stream: stream.aclose()) as url:
        pass
    summary = await streamed(make_plan(url, tmp_path, FAST, timeout=1.0))
    assert summary.totals.prediction_retries[Cause.REFUSED] >= 40
    assert summary.totals.errors == {Cause.REFUSED: 40}
    assert summary.totals.owed == 0
    assert judge(summary, None).exit_code == 1


async def test_truths_wait_for_a_service_that_comes_back(tmp_path: Path):
    """The service dies after the predictions and returns on the same port: every truth is delivered, once."""
    service = CountingService()
    plan: dict[str, Any] = {"rows": make_rows(5), "feedback_delay": 0.2}
    outcome: list[Summary] = []

    async def stream() -> None:
        outcome.append(await streamed(make_plan(service.url, tmp_path, Schedule(100, 0.05, cycles=1), **plan)))

    async with anyio.create_task_group() as group:
        async with serving(service):
            group.start_soon(stream)
            await service.until(lambda: len(service.predicted) == 5)
        port = int(service.url.rpartition(":")[2])
        await anyio.sleep(0.5)  # the outage itself: longer than the delay
        async with serving(service, port):
            await service.until(lambda: len(service.truths) == 5)
            while not outcome:
                await anyio.lowlevel.checkpoint()
    assert outcome[0].totals.delivered == {"matched": 5}
    assert sum(outcome[0].totals.retries.values()) >= 5


async def test_truths_that_cannot_be_delivered_stay_owed_until_resumed(service: CountingService, tmp_path: Path):
    """After the grace they stay in the journal; a plain run leaves them alone; --resume sends them."""

    async def no_feedback(path: str, _number: int) -> web.Response | None:
        return web.Response(status=503) if path == "feedback" else None

    service.gate = no_feedback
    record = tmp_path / "record.ndjson"
    failed = await streamed(make_plan(service.url, tmp_path, FAST, grace=0.1, record=record))
    assert (failed.totals.owed, failed.totals.delivered) == (40, {})
    assert judge(failed, None).exit_code == 1
    service.gate = CountingService().gate

    other = await streamed(make_plan(service.url, tmp_path, Schedule(100, 0.1, cycles=1), first_lap=9))
    assert (other.earlier, other.totals.resumed, other.totals.delivered) == (40, 0, {"matched": 10})

    resumed = await streamed(make_plan(service.url, tmp_path, FAST, rows=None, resume=True, record=record))
    assert (resumed.totals.resumed, resumed.totals.planned, resumed.totals.delivered) == (40, 0, {"matched": 40})
    assert judge(resumed, None).exit_code == 0
    assert compute(read_record(record)).coverage == 1.0


async def test_truths_that_nobody_takes_are_given_up(service: CountingService, tmp_path: Path):
    """Their time is over before the patience of the run: each is tried again until then, and then counted as lost."""

    async def no_feedback(path: str, number: int) -> web.Response | None:
        return web.Response(status=503) if path == "feedback" and number > 10 else None

    service.gate = no_feedback
    record = tmp_path / "record.ndjson"
    plan = make_plan(service.url, tmp_path, FAST, give_up_after=0.7, record=record)
    summary = await streamed(plan)
    assert summary.totals.delivered == {"matched": 10}
    assert summary.totals.given_up == {Cause.HTTP_503: 30}
    assert summary.totals.owed == 0
    assert sum(summary.totals.retries.values()) >= 30
    verdict = judge(summary, None)
    assert (verdict.exit_code, verdict.reason) == (1, "30 truths were given up: nothing had settled them in time")
    assert as_json(summary, verdict)["given_up"] == {"http_503": 30}
    report = compute(read_record(record))
    assert report.statuses == {"given_up": 30, "matched": 10}
    assert (report.joined, report.coverage) == (10, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_wall_clock_that_is_set_by_an_hour_moves_no_truth(
    service: CountingService, tmp_path: Path, step: float
):
    """While a run goes on, and before the one that resumes it: none is late by an hour, and none given up early."""
    record, begun = tmp_path / "record.ndjson", time.monotonic()

    def wall() -> float:
        return time.time() + (step if service.requests["predict"] >= 20 else 0.0)

    async def no_feedback(path: str, _number: int) -> web.Response | None:
        return web.Response(status=503) if path == "feedback" else None

    service.gate = no_feedback
    plan = make_plan(service.url, tmp_path, FAST, give_up_after=1800.0, grace=0.5, record=record)
    first = await run(plan, Silence(), Clocks(wall=wall))
    assert (first.totals.owed, first.totals.given_up) == (40, {})

    tried = service.requests["feedback"]

    async def busy(_path: str, number: int) -> web.Response | None:
        return web.Response(status=503) if number <= tried + 40 else None

    service.gate = busy
    second = await run(replace(plan, rows=None, resume=True, grace=30.0), Silence(), Clocks(wall=wall))
    assert (second.totals.delivered, second.totals.given_up) == ({"matched": 40}, {})
    assert sum(second.totals.retries.values()) == 40
    report = compute(read_record(record))
    assert report.lag_max is not None
    assert plan.feedback_delay <= report.lag_mean <= report.lag_max <= time.monotonic() - begun


async def test_a_long_backlog_does_not_hold_new_arrivals_back(service: CountingService, tmp_path: Path):
    """Of two thousand truths that are due at once none is answered before all of forty new records have come."""
    service.predicted = dict.fromkeys(range(1000, 3000), 1.0)
    with open_journal(tmp_path / "owed.db") as journal:
        for n in range(1000, 3000):
            journal.acknowledge(journal.intend(str(n), 5.0, 0.0, 1.0), 1.0, 0.0, 1.0)
    all_have_come = anyio.Event()

    async def hold_truths(path: str, number: int) -> None:
        if path == "predict" and number == 40:
            all_have_come.set()
        if path == "feedback":
            await all_have_come.wait()

    service.gate = hold_truths
    summary = await streamed(make_plan(service.url, tmp_path, FAST, resume=True))
    assert summary.totals.delivered == {"matched": 2040}
    assert summary.totals.retries == {}


async def test_beyond_the_limit_in_flight_arrivals_are_counted_as_not_sent(
    service: CountingService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With room for eight and a service that answers nothing until the end, 32 of 40 arrivals are not sent."""
    assert MAX_IN_FLIGHT == 10_000
    monkeypatch.setattr("streamsim.run.MAX_IN_FLIGHT", 8)
    held = anyio.Event()

    async def hold(path: str, _number: int) -> None:
        if path == "predict":
            await held.wait()

    async def release() -> None:
        await service.until(lambda: service.requests["predict"] == 8)
        await anyio.sleep(0.5)  # longer than the schedule
        held.set()

    service.gate = hold
    async with anyio.create_task_group() as group:
        group.start_soon(release)
        summary = await streamed(make_plan(service.url, tmp_path, FAST))
    assert (summary.totals.not_sent, summary.totals.acknowledged) == (32, 8)
    assert summary.error_percent == 80


async def test_two_simulators_need_two_journals(service: CountingService, tmp_path: Path):
    """The second one is told before it sends anything."""
    plan = make_plan(service.url, tmp_path, FAST)
    with open_journal(plan.journal), pytest.raises(JournalLocked, match="--journal"):
        await run(plan, Silence())
    assert service.requests == {}


@pytest.mark.parametrize(
    ("mistaken", "said"),
    [
        (Tally(planned=1), "41 records were sent, and 40 acknowledged, failed or cut off"),
        (Tally(causes=Counter({Cause.REFUSED: 2})), "40 records were sent, and 42 acknowledged, failed or cut off"),
        (Tally(resumed=1), "1 truths should be owed, and the journal holds 0"),
        (Tally(delivered=Counter(matched=3)), "-3 truths should be owed, and the journal holds 0"),
        (Tally(given_up=Counter({Cause.TIMEOUT: 1})), "-1 truths should be owed, and the journal holds 0"),
    ],
)
async def test_totals_that_do_not_add_up_are_never_silent(
    service: CountingService, tmp_path: Path, mistaken: Tally, said: str
):
    """Exit code 1 and a sentence, from a stream and from a load test, whatever else went well."""
    summary = await run(make_plan(service.url, tmp_path, FAST), Silence(), tally=mistaken)
    for verdict in (judge(summary, None), judge_stress(summary, Thresholds(1e6, 100))):
        assert verdict.exit_code == 1
        assert verdict.reason == f"the totals do not add up, which is a mistake of this program: {said}"


async def test_what_an_earlier_run_owes_is_no_disagreement(service: CountingService, tmp_path: Path):
    """Neither where it is left alone, nor where it is taken on."""
    with open_journal(tmp_path / "owed.db") as journal:
        journal.intend("77", 1.0, journal.now() - 1, journal.now())
    left = await streamed(make_plan(service.url, tmp_path, FAST))
    assert (left.earlier, left.held) == (1, 0)
    taken_on = await streamed(make_plan(service.url, tmp_path, FAST, rows=None, resume=True))
    assert (taken_on.earlier, taken_on.held, taken_on.totals.delivered) == (0, 0, {"unknown": 1})


async def test_the_summary_is_json(service: CountingService, tmp_path: Path):
    """`--report` gets plain names and numbers."""
    summary = await streamed(make_plan(service.url, tmp_path, FAST))
    document = json.loads(json.dumps(as_json(summary, judge(summary, None))))
    assert (document["sent"], document["acknowledged"], document["owed"], document["exit_code"]) == (40, 40, 0, 0)
    assert document["milliseconds"]["from_planned"]["samples"] == 40

"""Whole load tests against real servers: the correction is proved, and the command does what it says."""

import json
import time
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from streamsim.__main__ import main
from streamsim.arrivals import Schedule, offsets
from streamsim.clocks import Clocks
from streamsim.run import run
from streamsim.summary import Summary
from streamsim.tally import Tally
from streamsim.timeline import Timeline
from tests.streamsim.fakes import CountingService, Silence, make_plan
from tests.streamsim.test_process import result

pytestmark = pytest.mark.anyio
STEADY = Schedule(200, 2, duration=2, poisson=7)


async def stressed(service: CountingService, folder: Path) -> tuple[Summary, Tally]:
    """Send the steady schedule, with a timeline."""
    tally = Tally(timeline=Timeline())
    return await run(make_plan(service.url, folder, STEADY), Silence(), Clocks(), tally), tally


@pytest.mark.alone
@pytest.mark.slow
async def test_a_second_of_freeze_shows_in_p99_and_not_in_the_arrivals(service: CountingService, tmp_path: Path):
    """The same arrivals with and without a frozen second; the corrected p99 tells of it, the median does not."""

    async def frozen(path: str, number: int) -> None:
        if path == "predict" and number == 100:
            clearing.append(anyio.current_time() + 1)
        if path == "predict" and clearing:
            await anyio.sleep_until(clearing[0])  # the freeze itself

    clearing: list[float] = []
    calm, _ = await stressed(service, tmp_path / "calm")
    service.requests.clear()
    service.gate = frozen
    stalled, tally = await stressed(service, tmp_path / "stalled")
    planned = len(list(offsets(STEADY)))
    assert calm.totals.planned == stalled.totals.planned == planned
    assert calm.totals.acknowledged == stalled.totals.acknowledged == planned
    assert stalled.timings.from_planned.p99 is not None
    assert stalled.timings.from_planned.p99 >= 500
    assert tally.timeline is not None
    seconds = tally.timeline.seconds()
    assert sum(second.planned for second in seconds) == sum(second.sent for second in seconds) == planned
    assert max(second.p99 or 0 for second in seconds) >= 500
    assert max(second.in_flight for second in seconds) >= 50


@pytest.mark.slow
async def test_a_generator_that_is_held_up_counts_the_wait_from_the_planned_time(
    service: CountingService, tmp_path: Path
):
    """When nothing can leave for a second, only latency from the planned send time shows it: that is the correction."""
    late = Clocks(monotonic=lambda: time.monotonic() + (service.requests["predict"] >= 150))
    summary = await run(make_plan(service.url, tmp_path, STEADY), Silence(), late)
    assert summary.totals.planned == summary.totals.acknowledged == len(list(offsets(STEADY)))
    from_planned, from_sent, lag = (found.p95 or 0.0 for found in summary.timings)
    assert min(from_planned, lag) >= 500
    assert from_sent < from_planned


ARGUMENTS = ("stress", "100", "--duration", "1", "--feedback-delay", "0.1", "--report", "out folder")


@pytest.mark.slow
async def test_the_command_writes_its_report_and_leaves_a_streams_journal_alone(
    service: CountingService, csv: Path, tmp_path: Path
):
    """Exit code 0, a table, JSON and HTML in the folder, truths delivered, the journal beside the report."""
    code, said = await result(tmp_path, *ARGUMENTS, "--url", service.url, "--data", str(csv), "--p99", "20s")
    assert code == 0, said
    assert "latency from planned send" in said
    assert "The service shows no metrics." in said
    document = json.loads((tmp_path / "out folder" / "report.json").read_text())
    assert document["planned"] == document["delivered"]["matched"] == len(service.truths) > 0
    assert (tmp_path / "out folder" / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "out folder" / "owed.db").exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
async def test_a_missed_threshold_is_exit_code_99(service: CountingService, csv: Path, tmp_path: Path):
    """Half of the records fail: it says so, and the report says the same."""

    async def fail(path: str, number: int) -> web.Response | None:
        return web.Response(status=500) if path == "predict" and number % 2 else None

    service.gate = fail
    code, said = await result(
        tmp_path, *ARGUMENTS, "--url", service.url, "--data", str(csv), "--p99", "20s", "--errors", "10%"
    )
    assert code == 99, said
    assert "% errors, allowed are 10 %" in said
    assert json.loads((tmp_path / "out folder" / "report.json").read_text())["exit_code"] == 99


@pytest.mark.slow
@pytest.mark.parametrize(("more", "expected"), [((), (99, 1, 0, "no")), (("--retry",), (0, 0, 1, "yes"))])
async def test_what_fails_in_passing_is_an_error_unless_asked_otherwise(
    service: CountingService, csv: Path, tmp_path: Path, more: tuple[str, ...], expected: tuple[object, ...]
):
    """One 503: a load test judges by the first try; with `--retry` a later one counts, and its report says so."""

    async def busy_once(path: str, number: int) -> web.Response | None:
        return web.Response(status=503) if (path, number) == ("predict", 1) else None

    service.gate = busy_once
    code, said = await result(
        tmp_path, *ARGUMENTS, *more, "--url", service.url, "--data", str(csv), "--p99", "20s", "--errors", "0"
    )
    told = json.loads((tmp_path / "out folder" / "report.json").read_text())
    counted = told["errors"].get("http_503", 0), told["prediction_retries"].get("http_503", 0)
    assert (code, *counted, told["settings"]["retry"]) == expected, said


@pytest.mark.slow
async def test_beyond_the_concurrency_arrivals_are_not_sent(service: CountingService, csv: Path, tmp_path: Path):
    """With one request in flight and a service that holds it, all the others are errors."""

    async def hold(path: str, _number: int) -> None:
        if path == "predict":
            await anyio.sleep_forever()

    service.gate = hold
    code, said = await result(
        tmp_path, *ARGUMENTS, "--url", service.url, "--data", str(csv), "--concurrency", "1", "--timeout", "2",
        "--arrivals", "constant",
    )  # fmt: skip
    assert code == 1, said
    assert "100 = 1 sent + 99 not sent" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((), "RPS"),
        (("0",), "expected a number above 0"),
        (("500", "--p99", "fast"), "expected a number"),
        (("500", "--burst", "5"), "ON/OFF"),
        (("500", "--errors", "101%"), "expected a number"),
        (("500", "--arrivals", "sometimes"), "poisson"),
    ],
)
def test_usage_is_exit_code_2(wrong: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]):
    """What cannot be asked for is refused with what can be."""
    with pytest.raises(SystemExit) as refused:
        main(["stress", *wrong])
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_without_rows_it_could_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A missing file is exit code 1 and a sentence, before anything is sent."""
    assert main(["stress", "500", "--data", str(tmp_path / "no.csv")]) == 1
    assert "no such file" in capsys.readouterr().err

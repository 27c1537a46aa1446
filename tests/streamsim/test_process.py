"""The command as a person and a script use it: exit codes, Ctrl-C, kill -9 and what is sent afterwards."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from streamsim.__main__ import main
from streamsim.cli import make_plan, parser, resume_command
from streamsim.journal import open_journal
from tests.streamsim.fakes import CountingService

pytestmark = pytest.mark.anyio
ENDLESS = ("--rps", "100", "--on", "1", "--off", "0")


def environ_of() -> dict[str, str]:
    """What a simulator needs; nobody scrapes it, as another test may have the usual port."""
    return os.environ | {"OTEL_EXPORTER_PROMETHEUS_PORT": "0"}


@asynccontextmanager
async def simulator(folder: Path, *arguments: str) -> AsyncIterator[Process]:
    """Run `python -m streamsim` in a folder, and leave nothing behind."""
    command = [sys.executable, "-m", "streamsim", *arguments]
    async with await anyio.open_process(command, cwd=folder, env=environ_of()) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def ended(process: Process) -> tuple[int, str]:
    """Wait for the end; return exit code and everything it said."""
    assert process.stdout is not None
    assert process.stderr is not None
    with anyio.fail_after(30):
        said = b"".join([chunk async for chunk in process.stdout] + [chunk async for chunk in process.stderr])
        return await process.wait(), said.decode()


async def result(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command to its end."""
    async with simulator(folder, *arguments) as process:
        return await ended(process)


async def test_a_run_prints_a_summary_and_writes_its_report(service: CountingService, csv: Path, tmp_path: Path):
    """Twenty records at ten times the speed: exit code 0, plain aligned lines within 80 columns, a JSON report."""
    code, said = await result(
        tmp_path, "stream", "--url", service.url, "--data", str(csv), "--cycles", "2", "--rps", "10", "--on", "1",
        "--off", "1", "--feedback-delay", "3", "--speed", "10", "--report", "out/report.json",
    )  # fmt: skip
    assert code == 0, said
    assert "20 = 20 acknowledged" in said
    assert "20 = 20 matched" in said
    assert max(len(line) for line in said.splitlines()) <= 80
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["planned"], report["owed"], report["exit_code"]) == (20, 0, 0)
    assert (tmp_path / "data" / "streamsim" / "owed.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["stream", "stress"])
async def test_a_closed_output_ends_the_run_as_ctrl_c_does(
    service: CountingService, csv: Path, tmp_path: Path, command: str
):
    """`| head -1`: no traceback, one line that says so, and what is owed stays owed."""
    where = ("--url", service.url, "--data", str(csv), "--feedback-delay", "60")
    load = ENDLESS if command == "stream" else ("20", "--duration", "60", "--p99", "60s")
    words = [sys.executable, "-m", "streamsim", command, *load, *where]
    reader, writer = os.pipe()
    async with await anyio.open_process(words, cwd=tmp_path, env=environ_of(), stdout=writer) as process:
        os.close(writer)
        await anyio.to_thread.run_sync(os.read, reader, 10)  # of the first line
        os.close(reader)
        assert process.stderr is not None
        with anyio.fail_after(30):
            said = b"".join([chunk async for chunk in process.stderr]).decode()
            assert await process.wait() == 0, said
    told = [line for line in said.splitlines() if "stdout was closed" in line]
    assert len(told) == 1
    assert "Traceback" not in said
    assert not service.truths
    journal = tmp_path / ("data/streamsim" if command == "stream" else "data/stress") / "owed.db"
    with open_journal(journal) as left:
        assert len(left) == len(service.predicted)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_run_without_standard_streams_is_one_like_any_other(
    service: CountingService, csv: Path, tmp_path: Path, closed: str
):
    """As some supervisors start a process: all is sent, and nothing is owed."""
    where = ("--url", service.url, "--data", str(csv), "--feedback-delay", "0", "--report", "r.json")
    words = [sys.executable, "-m", "streamsim", "stream", "--rps", "10", "--on", "1", "--cycles", "1", *where]
    command = f"exec {shlex.join(words)} {closed}"
    ended = await anyio.run_process(["sh", "-c", command], cwd=tmp_path, env=environ_of(), check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "r.json").read_text())["delivered"] == {"matched": 10}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_ends_with_the_command_that_sends_the_rest(
    service: CountingService, csv: Path, tmp_path: Path, how: signal.Signals
):
    """Exit code 0, the number of owed truths, and a command that delivers each of them exactly once."""
    arguments = ("--url", service.url, "--data", str(csv), "--journal", "my journal.db", "--feedback-delay", "0.5")
    async with simulator(tmp_path, "stream", *arguments, *ENDLESS, "--record", "r.ndjson") as process:
        await service.until(lambda: len(service.truths) >= 20)
        process.send_signal(how)
        code, said = await ended(process)
    assert code == 0, said
    owed = len(service.predicted) - len(service.truths)
    assert f"{owed} truths are still owed" in said
    command = shlex.split(said.splitlines()[-1])
    assert command[:4] == ["python", "-m", "streamsim", "stream"]
    code, said = await result(tmp_path, *command[3:])
    assert code == 0, said
    assert_settled(service)
    assert service.statuses["matched"] == len(service.predicted)
    recorded = [json.loads(line)["event"] for line in (tmp_path / "r.ndjson").read_text().splitlines()]
    assert recorded.count("prediction") == len(service.predicted)
    assert recorded.count("feedback") >= len(service.predicted)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_ctrl_c_does_not_wait_for_answers(
    service: CountingService, csv: Path, tmp_path: Path, how: signal.Signals
):
    """What is in flight is cut off, its outcome unknown: its truth stays owed, and is settled as unknown later."""

    async def hang(path: str, number: int) -> None:
        if path == "predict" and number > 10:
            await anyio.sleep_forever()

    service.gate = hang
    where = ("--url", service.url, "--journal", "owed.db")
    async with simulator(
        tmp_path, "stream", *where, "--data", str(csv), "--feedback-delay", "0.5", *ENDLESS
    ) as process:
        await service.until(lambda: service.requests["predict"] >= 20)
        process.send_signal(how)
        await anyio.sleep(0.1)  # two signals at once would be one
        process.send_signal(how)
        code, said = await ended(process)
    assert code == 0, said
    assert "10 acknowledged" in said
    assert "cut off" in said
    code, said = await result(tmp_path, "stream", *where, "--resume")
    assert code == 0, said
    assert (service.statuses["matched"], service.statuses["unknown"]) == (10, service.requests["predict"] - 10)


@pytest.mark.slow
async def test_a_run_that_goes_on_after_another_uses_other_ids(service: CountingService, csv: Path, tmp_path: Path):
    """Else the truths of its first hour would be repetitions of those that the service has been told already."""
    where = ("--url", service.url, "--journal", "owed.db", "--record", "record.ndjson", "--data", str(csv))
    bursts = ("--rps", "50", "--on", "0.2", "--off", "0", "--cycles", "1", "--feedback-delay", "0.1")
    for more in ((), ("--resume",)):
        code, said = await result(tmp_path, "stream", *where, *bursts, *more)
        assert code == 0, said
    lines = [json.loads(line) for line in (tmp_path / "record.ndjson").read_text().splitlines()]
    ids = [line["id"] for line in lines if line["event"] == "prediction"]
    assert len(ids) == len(set(ids)) == 20
    assert service.statuses["matched"] == 20


async def test_kill_9_in_the_middle_loses_no_truth(service: CountingService, csv: Path, tmp_path: Path):
    """Whatever the service has acknowledged gets its truth, some before the kill and the rest by --resume."""
    where = ("--url", service.url, "--journal", "owed.db")
    stream = ("stream", *where, "--data", str(csv), "--feedback-delay", "0.3", *ENDLESS)
    async with simulator(tmp_path, *stream) as process:
        await service.until(lambda: len(service.truths) >= 20)
        process.kill()
        assert (await ended(process))[0] == -signal.SIGKILL
    assert len(service.predicted) > len(service.truths)
    code, said = await result(tmp_path, "stream", *where, "--resume")
    assert code == 0, said
    assert_settled(service)
    code, said = await result(tmp_path, "stream", *where, "--resume")
    assert code == 0
    assert "Earlier runs owed nothing." in said


def assert_settled(service: CountingService) -> None:
    """Every acknowledged prediction has its own truth, joined once."""
    assert set(service.truths) == set(service.predicted)
    assert service.statuses["matched"] == len(service.predicted)
    assert service.statuses["conflict"] == 0
    assert all(truth == int(str(record_id).partition(".")[0]) + 0.5 for record_id, truth in service.truths.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rps", "0"], "--rps: '0': expected a number above 0"),
        (["--rps", "nan"], "--rps: 'nan'"),
        (["--on", "fast"], "--on: 'fast'"),
        (["--off", "-1"], "--off: '-1'"),
        (["--cycles", "1.5"], "--cycles: '1.5': expected a whole number from 1"),
        (["--speed", "0"], "--speed: '0'"),
        (["--max-errors", "101%"], "--max-errors: '101'"),
        (["--url", "localhost:8000"], "--url: '***': expected an address such as"),
        (["--url", "http://me:s3cret"], "--url: 'http://...': expected an address such as"),
        (["--url", "http://me:12/s3cret@host"], "--url: 'http://...': expected an address such as"),
        (["--url", "http://me:12#s3cret@host"], "--url: 'http://...': expected an address such as"),
        (["--url", "http://host/?key=s3cret"], "--url: 'http://...': expected an address such as"),
        (["--url", "http://a..b"], "--url: 'http://...': expected an address such as"),
        (["--give-up-after", "-1"], "--give-up-after: '-1': expected a number from 0"),
        (["--url", "http://host:99999"], "--url: 'http://...'"),
        (["--url", "http://me:s3cret/pass@host"], "--url: 'http://...': expected an address such as"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_a_wrong_option_is_a_usage_error(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str):
    """Exit code 2 and one line that names option, value and what is accepted."""
    with pytest.raises(SystemExit) as ended:
        main(["stream", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
async def test_what_cannot_run_ends_with_1_and_one_line(service: CountingService, csv: Path, tmp_path: Path):
    """No rows, a locked journal, a record that cannot be written, a service that is not there."""
    where = ("stream", "--data", str(csv), "--cycles", "1", "--on", "0.1")
    assert await result(tmp_path, "stream") == (
        1,
        "streamsim: data/holdout/stream.csv: no such file; run: just holdout\n",
    )
    with open_journal(tmp_path / "locked.db"):
        code, said = await result(tmp_path, *where, "--url", service.url, "--journal", "locked.db")
        assert (code, said.count("\n")) == (1, 1)
        assert "give --journal another file" in said
    code, said = await result(tmp_path, *where, "--url", service.url, "--record", str(tmp_path))
    assert (code, said) == (1, f"streamsim: {tmp_path}: the record cannot be written: Is a directory\n")
    code, said = await result(tmp_path, *where, "--url", service.url, "--record", "/dev/full")
    assert (code, said) == (1, "streamsim: /dev/full: the record cannot be written: No space left on device\n")
    code, said = await result(tmp_path, *where, "--url", "http://127.0.0.1:1")
    assert code == 1
    assert said.splitlines()[-1] == "streamsim: not one prediction was acknowledged; is the service running at --url?"


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ([], []),
        (["--speed", "10"], ["--give-up-after", "360"]),
        (["--give-up-after", "86400", "--record", "r.ndjson"], ["--give-up-after", "86400", "--record", "r.ndjson"]),
    ],
)
def test_the_command_that_sends_the_rest_has_the_same_patience(arguments: list[str], more: list[str]):
    """Whatever a run would have waited for before it gives a truth up, in real seconds."""
    command = resume_command(make_plan(parser().parse_args(["stream", *arguments]), None))
    assert shlex.split(command)[9:] == more


@pytest.mark.parametrize("command", ["stream", "demo"])
def test_help_is_there(capsys: pytest.CaptureFixture[str], command: str):
    """Each command explains itself and its exit codes."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "--duration" in said
    assert "Exit codes: 0" in said


def test_what_streams_for_hours_does_not_load_polars():
    """It would add 30 MiB to a process that reads its rows in a child that ends."""
    code = "import sys, streamsim.__main__; print('polars' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"

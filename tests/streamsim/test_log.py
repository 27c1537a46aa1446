"""A run as log lines: what a container's log shows of the simulator."""

import json
import socket
from pathlib import Path

import pytest

from observability.signals import SERVICE_REACHABLE, SERVICE_UNREACHABLE
from observability.testing import OF_ANY_LINE, complaints, listening
from streamsim.answers import Cause
from streamsim.log import LogScreen
from streamsim.tally import Tally
from tests.streamsim.fakes import CountingService
from tests.streamsim.test_process import result

OF_EACH_LINE = OF_ANY_LINE | {"timestamp", "level", "event", "message"}


def told(said: str) -> list[dict[str, object]]:
    """The lines of a run, each of them an object and an event as declared."""
    lines = [json.loads(line) for line in said.splitlines() if not line.startswith("streamsim: ")]
    for line in lines:
        attributes = {name: value for name, value in line.items() if name not in OF_EACH_LINE}
        assert attributes.pop("service.name") == "streamsim"
        assert attributes.pop("service.version")
        assert attributes.pop("service.instance.id")
        assert complaints(line["event"], attributes) == []
    return lines


@pytest.mark.anyio
async def test_a_run_is_told_from_begin_to_end(service: CountingService, csv: Path, tmp_path: Path):
    """JSON lines and nothing else: where to, and the totals."""
    code, said = await result(
        tmp_path, "stream", "--url", service.url, "--data", str(csv), "--cycles", "1", "--rps", "10", "--on", "1",
        "--off", "0", "--feedback-delay", "1", "--speed", "10", "--log", "json",
    )  # fmt: skip
    assert code == 0, said
    began, ended = told(said)
    assert (began["event"], ended["event"]) == ("streamsim.run.started", "streamsim.run.ended")
    assert service.url == f"http://{began['server.address']}:{began['server.port']}"
    totals = {
        name: ended[name]
        for name in ("planned", "acknowledged", "failed", "delivered", "owed", "given_up", "interrupted")
    }
    assert totals == {
        "planned": 10, "acknowledged": 10, "failed": 0, "delivered": 10, "owed": 0, "given_up": 0,
        "interrupted": False,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_service_that_is_not_there_is_told_once(csv: Path, tmp_path: Path):
    """A warning, not one a request; then why the run failed. What an address holds of a password is not told."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, said = await result(
        tmp_path, "stream", "--url", f"http://me:secret@127.0.0.1:{port}", "--data", str(csv), "--cycles", "1",
        "--rps", "100", "--on", "2", "--off", "0", "--speed", "1", "--timeout", "1", "--log", "json",
    )  # fmt: skip
    assert code == 1
    events = [line["event"] for line in told(said)]
    assert events == [f"streamsim.{name}" for name in ("run.started", "service.unreachable", "run.ended", "run.failed")]
    assert "secret" not in said


@pytest.mark.anyio
async def test_a_run_that_cannot_begin_says_why(tmp_path: Path):
    """A journal that is no journal: an event, and the line on stderr as ever."""
    (tmp_path / "rows.csv").write_text("id,Sex,Age,Height,Weight,Duration,Heart_Rate,Body_Temp,Calories\n")
    (tmp_path / "owed.db").write_bytes(b"no journal" * 1000)
    arguments = ("--resume", "--journal", "owed.db", "--url", "http://127.0.0.1:9", "--log", "json")
    code, said = await result(tmp_path, "stream", *arguments)
    assert code == 1
    _, failed = told(said)
    assert failed["event"] == "streamsim.run.failed"
    assert "owed.db" in str(failed["reason"])
    assert f"streamsim: {failed['reason']}" in said


def test_an_outage_is_told_when_it_begins_and_when_it_ends():
    """Nothing at all is no outage, a refusal with 503 is an answer, and so is a truth that was delivered."""
    screen, tally = LogScreen(), Tally()
    looks = [tally.totals(0)]

    def look() -> list[tuple[str, dict[str, object]]]:
        looks.append(tally.totals(0))
        with listening() as listener:
            screen.look(*looks[-2:])
        return [(each.event.name, dict(each.attributes)) for each in listener.told]

    assert look() == []
    tally.causes[Cause.REFUSED] += 2
    tally.retries[Cause.TIMEOUT] += 1
    tally.prediction_retries[Cause.TIMEOUT] += 3
    assert look() == [(SERVICE_UNREACHABLE.name, {"causes": "2 refused, 4 timeout"})]
    tally.causes[Cause.CLOSED] += 1
    assert look() == []
    assert look() == []
    tally.causes[Cause.HTTP_503] += 1
    tally.causes[Cause.REFUSED] += 1
    assert look() == [(SERVICE_REACHABLE.name, {})]
    tally.causes[Cause.NOT_SENT] += 5
    assert look() == []
    tally.causes[Cause.REFUSED] += 1
    assert [name for name, _ in look()] == [SERVICE_UNREACHABLE.name]
    tally.delivered["matched"] += 1
    assert [name for name, _ in look()] == [SERVICE_REACHABLE.name]

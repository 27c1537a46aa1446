"""Who may stay connected: whose time is up, who makes room for others, and what is left for everything else."""

import json
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest

from calsvc.connections import TOLD_EVERY, Connections
from calsvc.descriptors import RESERVED, raise_limit, room_for_connections
from calsvc.http.errors import SettingsError
from calsvc.stay import KEEP_ALIVE, LINGER, SLOWEST, UNREAD, Stay
from observability.testing import listening
from tests.clock import Clock
from tests.conftest import Workshop
from tests.service_process import PATIENCE, ServiceProcess, service_process
from tests.test_bounds import everything, get, problem_in
from tests.test_protocol import Running, post, scenario, until
from tests.test_schema import WORKOUT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("stay", "waiting", "seconds", "verdict"),
    [
        (Stay(0), 0, KEEP_ALIVE, None),
        (Stay(0), 0, KEEP_ALIVE + 1, "idle"),
        (Stay(0), 1, KEEP_ALIVE + 1, None),
        (Stay(0, begun=0), 0, SLOWEST, None),
        (Stay(0, begun=0), 0, SLOWEST + 1, "slow"),
        (Stay(0, begun=0), 1, SLOWEST + 1, None),
        (Stay(0, unread=0), 1, UNREAD, None),
        (Stay(0, unread=0), 1, UNREAD + 1, "unread"),
        (Stay(0, parting=0), 0, LINGER, None),
        (Stay(0, parting=0), 1, LINGER + 1, "parted"),
    ],
)
def test_a_stay_is_over_when_its_state_has_lasted_too_long(
    stay: Stay, waiting: int, seconds: float, verdict: str | None
):
    """Each state has its time; who is being answered has all the time that it takes."""
    assert stay.over(seconds, waiting) == verdict


def test_where_there_is_no_room_who_has_waited_longest_goes(bundle: Path):
    """Neither bytes that drip nor the time at which it was opened make a connection younger; an answer does."""

    async def play(service: Running) -> None:
        service.gate.open.set()
        wires = [await service.connect() for _ in range(4)]
        await until(lambda: len(service.open) == 4)
        for wire in wires:
            wire.send(get("/livez"))
            await wire.answer()
            service.later(1)
            await until(lambda: service.service.connections.now == service.clock.now)
        wires[1].send(b"POST")
        wires[0].send(get("/livez"))
        await wires[0].answer()
        newest = await service.connect()
        newest.send(post())
        assert (await newest.answer())[0] == 200
        assert await gone(wires[1].reader.read()) == b""
        wires[0].send(post())
        assert (await wires[0].answer())[0] == 200
        assert (len(service.open), service.service.connections.closed["evicted"]) == (4, 1)

    scenario(bundle, 8, play, max_connections=4)


async def gone(read: object) -> bytes:
    """What is left to read of a connection that has been closed or reset."""
    try:
        with anyio.fail_after(PATIENCE):
            return await read  # type: ignore[misc,no-any-return]
    except ConnectionError:
        return b""


def test_where_all_are_worked_on_a_new_connection_is_told_so(bundle: Path):
    """503 with Retry-After, and when one is answered there is room again."""

    async def play(service: Running) -> None:
        await service.at_the_gate(3)
        for _ in range(2):
            answer = await everything(await service.connect())
            assert problem_in(answer)[0] == 503
            assert b"Retry-After: 1" in answer.title()
        service.gate.open.set()
        assert [(await wire.answer())[0] for wire in service.wires[:3]] == [200] * 3
        another = await service.connect()
        another.send(post())
        assert (await another.answer())[0] == 200

    scenario(bundle, 8, play, max_connections=3)


def test_closed_connections_are_told_of_now_and_then():
    """One line in ten seconds, with the reasons; who leaves by itself is no news."""
    clock = Clock()
    connections = Connections(1, clock)
    with listening() as listener:
        for reason in ("client", "slow", "slow", "evicted"):
            connection = Known()
            connections.enter(connection)
            connections.leave(connection, reason)
            connections.leave(connection, "client")
        for _ in range(3):
            clock.now += TOLD_EVERY / 2
            connections.sweep()
    (told,) = listener.told
    assert told.attributes == {"connections": 3, "seconds": TOLD_EVERY, "reasons": "slow 2, evicted 1"}
    assert connections.closed["client"] == 1


class Known:
    """A connection that does nothing."""

    busy = False

    def __init__(self) -> None:
        self.stay = Stay(0.0)

    def look_after(self, now: float) -> None:
        """Stay."""

    def drop(self, reason: str) -> None:
        """Go."""


def test_files_are_left_for_what_is_no_connection():
    """Fewer connections than wanted, or a line that says what is missing."""
    assert room_for_connections(4096, 65_536) == 4096
    assert room_for_connections(4096, 256) == 256 - RESERVED
    with pytest.raises(SettingsError, match="ulimit -n"):
        room_for_connections(4096, 64)


def test_the_limit_of_files_is_raised_to_what_is_allowed():
    """In a process of its own: what was raised stays so."""
    script = (
        "import resource; from calsvc.descriptors import raise_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300)); print(raise_limit(), raise_limit(), end=' ');"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["300", "300", "300", "300"]
    assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


CROWD = 1000
"""Connections: several times as many as the service may have."""


@pytest.mark.alone
@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHost: c", post()[:-1]], ids=["idle", "head", "body"])
def test_a_crowd_that_sends_nothing_whole_starves_nobody(workshop: Workshop, tmp_path: Path, sent: bytes):
    """With 256 files: who sends whole requests is answered all the while, and descriptors remain."""
    with ExitStack() as stack:
        wrapper = tmp_path / "few.py"
        wrapper.write_text(
            "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
            "runpy.run_module('calsvc', run_name='__main__')"
        )
        service = stack.enter_context(service_process(tmp_path, workshop.environ(), command=[str(wrapper)]))
        limit = json.loads(service.call("/info")[2])["limits"]["connections"]
        assert limit == 256 - RESERVED
        patient = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), PATIENCE))
        for number in range(CROWD):
            each = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), PATIENCE))
            each.sendall(sent)
            if number % 50 == 0:
                assert service.call("/predict", WORKOUT)[0] == 200
        assert files_of(service) <= limit + RESERVED
        assert service.call("/predict", WORKOUT)[0] == 200
        assert patient.recv(1) == b""
        assert "Traceback" not in service.output()
        assert service.stop() == 0


def files_of(service: ServiceProcess) -> int:
    """Descriptors that the process has open; 0 where that is not told."""
    folder = Path(f"/proc/{service.process.pid}/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0

"""The event stream over a real server: the same for all, ended by the process, and in nobody's way."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Workshop
from tests.http.test_schema import WORKOUT
from tests.service_process import ServiceProcess, service_process
from tests.web.streams import EventStream, at

pytestmark = pytest.mark.slow


@pytest.fixture
def service(workshop: Workshop, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service that lets one request wait at a time."""
    with service_process(tmp_path, workshop.environ() | {"CALSVC_MAX_IN_FLIGHT": "1"}) as service:
        yield service


def test_two_pages_get_the_same_bytes(service: ServiceProcess):
    """Whoever watches at the same time sees the same; history first."""
    with EventStream(service.url) as one, EventStream(service.url) as other:
        assert one.answer.headers["Content-Type"] == "text/event-stream"
        histories = [next(stream.events()) for stream in (one, other)]
        assert [name for name, _ in histories] == ["history", "history"]
        assert set(json.loads(histories[0][1])) == {"about", "now", "points"}
        seen = [{at(update): update for update in stream.updates(3)} for stream in (one, other)]
        both = set(seen[0]) & set(seen[1])
        assert both
        assert all(seen[0][time] == seen[1][time] for time in both)


@pytest.mark.alone
def test_a_hundred_pages_cost_what_one_does(service: ServiceProcess):
    """All see one and the same sequence of snapshots: nobody has snapshots of their own."""
    with contextlib.ExitStack() as open_pages:
        pages = [open_pages.enter_context(EventStream(service.url)) for _ in range(100)]
        seen = [page.updates(3) for page in pages]
    all_of_them = sorted({update for updates in seen for update in updates}, key=at)
    assert len({at(update) for update in all_of_them}) == len(all_of_them)
    for updates in seen:
        begin = all_of_them.index(updates[0])
        assert updates == all_of_them[begin : begin + 3]


def test_open_pages_take_no_requests_place(service: ServiceProcess):
    """With room for one request, three open pages leave it free; after they are closed, it still is."""
    with contextlib.ExitStack() as pages:
        streams = [pages.enter_context(EventStream(service.url)) for _ in range(3)]
        for stream in streams:
            stream.updates(1)
        assert [service.call("/predict", WORKOUT)[0] for _ in range(5)] == [200] * 5
        assert json.loads(streams[0].updates(2)[-1])["predictions"] == 5
    assert [service.call("/predict", WORKOUT)[0] for _ in range(5)] == [200] * 5


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_process_does_not_wait_for_open_pages(service: ServiceProcess, how: signal.Signals):
    """Each stream ends in good order, with a last word; the server's patience with requests is never needed."""
    with contextlib.ExitStack() as pages:
        streams = [pages.enter_context(EventStream(service.url)) for _ in range(5)]
        streams[0].updates(1)
        service.process.send_signal(how)
        last = [list(stream.events())[-1] for stream in streams]
        assert [json.loads(data)["phase"] for _, data in last] == ["draining"] * 5
        assert service.process.wait(60) == 0
    assert "graceful shutdown exceeded" not in service.output()
    assert "Traceback" not in service.output()


def test_a_page_that_comes_while_the_process_goes_is_sent_away(workshop: Workshop, tmp_path: Path):
    """503: nothing would follow, and the process would have to wait."""
    with service_process(tmp_path, workshop.environ() | {"CALSVC_DRAIN_DELAY": "600"}) as service:
        service.process.send_signal(signal.SIGTERM)
        service.wait_until("/readyz", 503)
        service.wait_until("/events", 503)
        assert service.call("/")[0] == 200
        assert service.stop() == 0


def test_a_page_that_is_closed_mid_stream_leaves_no_complaint(service: ServiceProcess):
    """People close tabs: nothing of that is in the log."""
    for _ in range(3):
        with EventStream(service.url) as stream:
            stream.updates(1)
    assert service.call("/healthz")[0] == 200
    assert service.stop() == 0
    lines = [json.loads(line) for line in service.output().splitlines()]
    assert {line["level"] for line in lines} == {"info"}
    assert "calsvc.service.ready" in [line["event"] for line in lines]

"""The file of what a replica holds: whole after every write, one replica's at a time, gone when it is told."""

import errno
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from calsvc.feedback.facts import Beside, Claim, Fact, Prediction
from calsvc.feedback.held import Held
from calsvc.feedback.journal import Moment
from calsvc.feedback.spool import Place, Spool

PREDICTION = Prediction(b"calsvc:i:1", b"nonce", 90.0, b"answer")
BESIDE = Beside(b"calsvc:i:1", b"nonce", b"shadow")
CLAIM = Claim("calsvc:s:ä".encode(), b"claim", 77.5, 95.0)
FACTS: list[Fact] = [PREDICTION, BESIDE, CLAIM]
NOW = Moment("boot", 100.0, 5000.0)


def place(folder: Path, now: Moment = NOW, store: str = "redis://here:6379/0") -> Place:
    """Where files lie, at one moment."""
    return Place(folder / "held", store, lambda: now)


def left(folder: Path, facts: Sequence[Fact]) -> Path:
    """A replica that is gone has left facts, each written by itself."""
    spool = Spool(place(folder), "one")
    for each in facts:
        spool.write([each])
    spool.close()
    return spool.path


def taken(where: Place) -> list[Fact]:
    """What another replica takes over, that goes without telling it."""
    with closing(Spool(where, "another")) as spool:
        return spool.take_over()


def test_facts_come_back_in_the_time_of_who_takes_over(tmp_path: Path):
    """On the same machine by its monotonic clock, after a new start of it by the wall clock."""
    left(tmp_path, FACTS)
    assert taken(place(tmp_path, Moment("boot", 160.0, 0.0))) == FACTS
    later = taken(place(tmp_path, Moment("another boot", 7.0, 5030.0)))
    assert later == [PREDICTION._replace(made_at=-33.0), BESIDE, CLAIM._replace(came_at=-28.0)]


def test_a_file_is_one_replicas_at_a_time(tmp_path: Path):
    """As long as it lives; and what was taken over is nobody else's, until its new owner goes without telling it."""
    one, two, three = (Spool(place(tmp_path), name) for name in ("one", "two", "three"))
    one.write(FACTS)
    assert two.take_over() == []
    one.close()
    assert two.take_over() == FACTS
    assert three.take_over() == []
    two.close()
    assert three.take_over() == FACTS
    three.clear()
    assert list((tmp_path / "held").iterdir()) == []


def test_what_was_held_for_another_server_is_nothing_to_this_one(tmp_path: Path):
    """It stays, for those who ask that server."""
    left(tmp_path, FACTS)
    assert taken(place(tmp_path, store="redis://there:6379/0")) == []
    assert taken(place(tmp_path)) == FACTS


@pytest.mark.parametrize("cut", [1, 2, 10, 30, 50])
def test_a_file_that_was_cut_off_is_read_as_far_as_it_is_whole(tmp_path: Path, cut: int):
    """Wherever the last write broke off."""
    path = left(tmp_path, FACTS[:2])
    path.write_bytes(path.read_bytes()[:-cut])
    assert taken(place(tmp_path)) == FACTS[:1]


def test_a_file_that_was_altered_is_read_up_to_there(tmp_path: Path):
    """The checksum of the second write does not hold."""
    path = left(tmp_path, FACTS)
    path.write_bytes(path.read_bytes().replace(b"shadow", b"shodow"))
    assert taken(place(tmp_path)) == FACTS[:1]


def test_a_new_file_takes_the_place_of_all_others(tmp_path: Path):
    """Of its own, and of those that were taken over."""
    left(tmp_path, FACTS[:1])
    with closing(Spool(place(tmp_path), "two")) as spool:
        assert spool.take_over() == FACTS[:1]
        spool.write(FACTS[1:])
        spool.rewrite(FACTS)
        assert list((tmp_path / "held").iterdir()) == [spool.path]
        assert spool.facts == len(FACTS)
    assert taken(place(tmp_path)) == FACTS


def test_what_was_taken_over_is_of_others_until_it_is_told(tmp_path: Path):
    """Between taking a file and telling what is in it, nobody may say that there is nothing."""
    left(tmp_path, FACTS)
    with closing(Spool(place(tmp_path), "two")) as spool:
        spool.write(FACTS)
        assert spool.has_others
        assert spool.take_over() == FACTS
        assert spool.has_others
        spool.clear()
        assert not spool.has_others


class Disk(Spool):
    """A disk that may be full, after it has taken a part of what it should."""

    full = False

    def _append(self, path: Path, facts: Sequence[Fact]) -> None:
        if self.full:
            self._files[path].write(b"\0\0\0\xff half a fra")
            raise OSError(errno.ENOSPC, "full")
        super()._append(path, facts)


def hold(spool: Spool, *happenings: object) -> None:
    """Let facts come, or other things happen, each once the last is written, if it can be; then it is killed."""

    async def scenario() -> None:
        held, facts = Held(10, spool), 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.run)
            for each in happenings:
                if callable(each):
                    each()
                else:
                    held.add(each)  # type: ignore[arg-type]
                    facts += 1
                with anyio.move_on_after(1):  # a full disk never comes so far
                    await written(facts)
            with anyio.fail_after(30):
                await written(facts)
            tasks.cancel_scope.cancel()

    async def written(facts: int) -> None:
        while spool.facts != facts:  # noqa: ASYNC110 - a thread
            await anyio.sleep(0.02)

    anyio.run(scenario)
    spool.close()


@pytest.mark.slow
def test_what_a_full_disk_has_refused_is_written_when_there_is_room(tmp_path: Path):
    """All of it, and readable, although half a write is in the way."""
    disk = Disk(place(tmp_path), "one")

    def fill(*, full: bool) -> None:
        disk.full = full

    hold(disk, PREDICTION, lambda: fill(full=True), BESIDE, lambda: fill(full=False), CLAIM)
    assert taken(place(tmp_path)) == FACTS


def test_what_was_deleted_under_way_is_written_anew(tmp_path: Path):
    """All that is held, also what the file had before."""
    spool = Spool(place(tmp_path), "one")
    hold(spool, PREDICTION, spool.path.unlink, BESIDE)
    assert taken(place(tmp_path)) == FACTS[:2]


def test_facts_that_cannot_be_given_stay_where_they_are(tmp_path: Path):
    """In order, and in the file."""

    async def refuse(_: Sequence[Fact]) -> None:
        raise ConnectionError

    async def scenario() -> None:
        held = Held(10, Spool(place(tmp_path), "one"))
        for each in FACTS:
            held.add(each)
        with pytest.raises(ConnectionError):
            await held.give(2, refuse)
        assert await held.aclose()

    anyio.run(scenario)
    assert taken(place(tmp_path)) == FACTS

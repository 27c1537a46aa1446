"""The files of what replicas hold: one replica's at a time, gone when all is told."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from calsvc.feedback import writer
from calsvc.feedback.facts import Beside, Claim, Fact, Prediction
from calsvc.feedback.held import Held, HeldFiles, Place
from calsvc.feedback.journal import Keep, Moment
from observability.signals import STORE_BACK, STORE_DAMAGED, STORE_DEGRADED
from observability.testing import listening
from sqlitefile import FileError
from tests.feedback.stores import CHALLENGER, CHAMPION
from tests.feedback.test_stores import until

PREDICTION = Prediction(1, 90.0, 80.5, CHAMPION, b"x" * 24, b"nonce")
BESIDE = Beside(1, 81.0, CHALLENGER, b"nonce")
CLAIM = Claim("ä", 77.5, 95.0, b"claim")
FACTS: list[Fact] = [PREDICTION, BESIDE, CLAIM]
NOW = Moment("boot", 100.0, 5000.0)


def place(folder: Path, now: Moment = NOW, store: str = "redis://here:6379/0") -> Place:
    """Where files lie, at one moment."""
    return Place(folder / "held", store, Keep(3600.0, 1000, lambda: now))


def left(folder: Path, facts: Sequence[Fact]) -> Path:
    """A replica that is gone has left facts, each written by itself."""
    files = HeldFiles(place(folder), "one")
    for each in facts:
        files.append([each])
    files.close()
    return files.path


def found_by(files: HeldFiles) -> list[Fact]:
    """What a replica takes over."""
    found: list[Fact] = []
    files.take_over(found)
    return found


def taken(where: Place) -> list[Fact]:
    """What another replica takes over, that goes without telling it."""
    with closing(HeldFiles(where, "another")) as files:
        return found_by(files)


def test_facts_come_back_in_the_time_of_who_takes_over(tmp_path: Path):
    """On the same machine by its monotonic clock, after a new start of it by the wall clock."""
    left(tmp_path, FACTS)
    assert taken(place(tmp_path, Moment("boot", 160.0, 0.0))) == FACTS
    later = taken(place(tmp_path, Moment("another boot", 7.0, 5030.0)))
    assert later == [PREDICTION.later(-123.0), BESIDE, CLAIM.later(-123.0)]
    assert (later[0].made_at, later[2].came_at) == (-33.0, -28.0)


def test_a_file_is_one_replicas_at_a_time(tmp_path: Path):
    """As long as it lives; and what was taken over is nobody else's, until its new owner goes without telling it."""
    one, two, three = (HeldFiles(place(tmp_path), name) for name in ("one", "two", "three"))
    one.append(FACTS)
    assert found_by(two) == []
    one.close()
    assert found_by(two) == FACTS
    assert two.predecessors == ["one"]
    assert found_by(three) == []
    two.close()
    assert found_by(three) == FACTS
    three.replace([])
    assert list((tmp_path / "held").iterdir()) == []


def test_what_was_held_for_another_server_is_nothing_to_this_one(tmp_path: Path):
    """It stays, for those who ask that server."""
    left(tmp_path, FACTS)
    assert taken(place(tmp_path, store="redis://there:6379/0")) == []
    assert taken(place(tmp_path)) == FACTS


def test_a_file_that_was_cut_off_is_put_aside_and_the_others_are_read(tmp_path: Path):
    """It is kept and named; its replica is not known to hold anything any more."""
    path = left(tmp_path, FACTS)
    path.write_bytes(path.read_bytes()[:5000])
    with closing(HeldFiles(place(tmp_path), "two")) as files:
        files.append([CLAIM])
    with listening() as listener:
        assert taken(place(tmp_path)) == [CLAIM]
    (told,) = [told for told in listener.told if told.event == STORE_DAMAGED]
    assert told.attributes["file"] == str(path)
    assert path.with_name(f"{path.name}.damaged").stat().st_size == 5000
    assert not path.exists()


def test_a_file_that_cannot_be_read_hides_no_other(tmp_path: Path):
    """What the others hold is found, and told, before anybody hears of it."""
    path = left(tmp_path, FACTS)
    with closing(sqlite3.connect(path.with_name(path.name.replace("one", "another one")))) as connection:
        connection.execute("CREATE TABLE theirs (a)")

    async def scenario() -> None:
        held = Held(10, HeldFiles(place(tmp_path), "two"))
        with pytest.raises(FileError):
            await held.restore()
        assert len(held) == len(FACTS)
        await held.aclose()

    anyio.run(scenario)


def test_a_file_without_anything_in_it_is_nobodys(tmp_path: Path):
    """Its replica may just have told what was in it, and be there."""
    with closing(HeldFiles(place(tmp_path), "two")) as files:
        files.append([])
        assert files.path.exists()
    with closing(HeldFiles(place(tmp_path), "three")) as files:
        assert found_by(files) == []
        assert files.predecessors == []
        assert not files.has_others


def test_a_new_file_takes_the_place_of_all_others(tmp_path: Path):
    """Of its own, and of those that were taken over."""
    left(tmp_path, FACTS[:1])
    with closing(HeldFiles(place(tmp_path), "two")) as files:
        assert found_by(files) == FACTS[:1]
        files.append(FACTS[1:])
        files.replace(FACTS)
        assert not files.has_others
    assert list((tmp_path / "held").iterdir()) == [files.path]
    assert taken(place(tmp_path)) == FACTS


def test_what_was_taken_over_is_of_others_until_it_is_told(tmp_path: Path):
    """Between taking a file and telling what is in it, nobody may say that there is nothing."""
    left(tmp_path, FACTS)
    with closing(HeldFiles(place(tmp_path), "two")) as files:
        files.append(FACTS)
        assert files.has_others
        assert found_by(files) == FACTS
        assert files.has_others
        files.replace([])
        assert not files.has_others


def hold(files: HeldFiles, *happenings: object) -> None:
    """Let facts come, or other things happen, and wait until all is written; then it is killed."""

    async def scenario() -> None:
        held = Held(10, files)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.run)
            for each in happenings:
                if callable(each):
                    await each(held)
                else:
                    held.add(each)  # type: ignore[arg-type]
                    await until(lambda: held._writer.complete or held._writer.degraded)  # noqa: SLF001
            await until(lambda: held._writer.complete and not held._writer.degraded)  # noqa: SLF001
            tasks.cancel_scope.cancel()

    anyio.run(scenario)
    files.close()


def limited(pages: int) -> Callable:
    """Let the file have so many pages at most, as a full disk would."""

    async def limit(held: Held) -> None:
        journal = held._files._own  # noqa: SLF001
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001

    return limit


def test_what_a_full_disk_has_refused_is_written_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All of it, in order; and it is said, once, that it was full."""
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.01)
    large = Claim("x" * 50_000, 1.0, 95.0)
    with listening() as listener:
        hold(HeldFiles(place(tmp_path), "one"), PREDICTION, limited(3), large, limited(1000), CLAIM)
    assert taken(place(tmp_path)) == [PREDICTION, large, CLAIM]
    assert [told.event for told in listener.told] == [STORE_DEGRADED, STORE_BACK]


def test_what_was_deleted_under_way_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All that is held, also what the file had before."""
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.01)

    async def delete(held: Held) -> None:
        with suppress(FileNotFoundError):
            held.file.unlink()

    hold(HeldFiles(place(tmp_path), "one"), PREDICTION, delete, BESIDE)
    assert taken(place(tmp_path)) == FACTS[:2]


def test_facts_that_cannot_be_given_stay_where_they_are(tmp_path: Path):
    """In order, and in the file."""

    async def refuse(_: Sequence[Fact]) -> None:
        raise ConnectionError

    async def scenario() -> None:
        held = Held(10, HeldFiles(place(tmp_path), "one"))
        for each in FACTS:
            held.add(each)
        with pytest.raises(ConnectionError):
            await held.give(2, refuse)
        assert await held.aclose()

    anyio.run(scenario)
    assert taken(place(tmp_path)) == FACTS


class SlowFiles(HeldFiles):
    """A disk that takes its time."""

    writing = threading.Event()
    go_on = threading.Event()

    def append(self, facts: Sequence[Fact]) -> None:
        """Wait to be let on."""
        self.writing.set()
        assert self.go_on.wait(30)
        super().append(facts)


def test_what_was_told_while_it_was_written_leaves_no_file(tmp_path: Path):
    """The server came back just then: the file goes all the same."""

    async def take(_: Sequence[Fact]) -> None:
        return

    async def scenario() -> None:
        files = SlowFiles(place(tmp_path), "one")
        held = Held(10, files)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.run)
            held.add(PREDICTION)
            await until(files.writing.is_set)
            await held.give(10, take)
            held.told()
            files.go_on.set()
            await until(lambda: held._writer.complete)  # noqa: SLF001
            tasks.cancel_scope.cancel()
        assert not files.path.exists()

    anyio.run(scenario)

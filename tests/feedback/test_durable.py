"""A store with a journal: what the next process knows, whatever has become of the process, the file or the clock."""

import sqlite3
from collections.abc import Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from calsvc.feedback import durable, writer
from calsvc.feedback.durable import DurableStore
from calsvc.feedback.journal import Journal, Keep, Moment
from calsvc.feedback.ledger import Ledger
from calsvc.feedback.opening import FACTS_PER_PREDICTION
from calsvc.feedback.records import Remembered
from calsvc.http.errors import StoreError, UnknownId
from observability.signals import STORE_BACK, STORE_DAMAGED, STORE_DEGRADED, STORE_LOST, STORE_RESTORED
from observability.testing import listening
from tests.feedback.stores import RETENTION, SHADOW, SPAN, prediction, running
from tests.feedback.test_stores import until


class Machine:
    """Both clocks of a machine, and which boot it is."""

    def __init__(self) -> None:
        self.boot = "first"
        self.monotonic = 5_000.0
        self.wall = 1.7e9

    def now(self) -> Moment:
        """The moment."""
        return Moment(self.boot, self.monotonic, self.wall)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.monotonic += seconds
        self.wall += seconds

    def boot_again(self, seconds: float) -> None:
        """Come up again after some seconds: the monotonic clock starts over."""
        self.boot += "+"
        self.wall += seconds
        self.monotonic = 12.0


class Place:
    """A folder in which one store after the other is opened."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "a store" / "waiting.db"
        self.machine = Machine()

    def store(self, most: int = 1000) -> DurableStore:
        """A store of a new process."""
        ledger = Ledger(RETENTION, most)
        keep = Keep(RETENTION, FACTS_PER_PREDICTION * most, self.machine.now)
        return DurableStore(ledger, Journal(self.file, keep), RETENTION)

    @asynccontextmanager
    async def opened(self, most: int = 1000) -> Any:
        """A store of a new process, in use."""
        async with running(self.store(most), self.machine.monotonic) as store:
            yield store

    def asides(self) -> list[str]:
        """The files that were put aside."""
        return sorted(each.name for each in self.file.parent.glob("waiting.db.*") if not each.name.endswith("-wal"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty folder."""
    return Place(tmp_path)


def play(scenario: Callable[[], Any]) -> None:
    """Run it as the service runs."""
    anyio.run(scenario, backend_options={"use_uvloop": True})


async def fill(place: Place, numbers: range, age: float = 0.0) -> None:
    """Let a process remember predictions of these ids, one batch each, and end in order."""
    async with place.opened() as store:
        for number in numbers:
            await store.remember(number, prediction(place.machine.monotonic - age, kcal=float(number)))
            await store._writer.save()  # noqa: SLF001 - a batch of its own


async def found(place: Place, numbers: range) -> set[int]:
    """Ask a new process which of the ids wait; their truths are joined by it."""
    seen = set()
    async with place.opened() as store:
        for number in numbers:
            try:
                joined = await store.join(number, 1.0, place.machine.monotonic)
            except UnknownId:
                continue
            if joined.status == "matched":
                assert joined.prediction.kcal == number
                seen.add(number)
    return seen


def test_everything_that_matters_is_there_again(place: Place):
    """Predictions with time, span and shadow; truths, to know them again; and nothing that was replaced."""

    async def scenario() -> None:
        now = place.machine.monotonic
        made = Remembered(81.5, now - 10, prediction(0).series, SPAN, SHADOW)
        async with place.opened() as store:
            await store.remember("x", prediction(now - 20, kcal=1.0))
            await store.remember("x", prediction(now - 10, 81.5, SPAN))
            assert await store.attach("x", now - 10, SHADOW)
            await store.remember(2, prediction(now))
            await store.join(2, 77.0, now)
        place.machine.wait(60)
        async with place.opened() as store:
            assert store.statistics().pending == 1
            joined = await store.join("x", 80.0, place.machine.monotonic)
            assert joined.prediction == Remembered(81.5, pytest.approx(now - 10), made.series, SPAN, SHADOW)
            assert (await store.join(2, 77.0, place.machine.monotonic)).status == "duplicate"

    play(scenario)


def test_what_waits_is_told_when_the_store_opens(place: Place):
    """So that the coverage of a process that was restarted counts the labels that it will get."""

    async def scenario() -> None:
        await fill(place, range(3), age=7.0)
        with listening() as listener:
            store = place.store()
            waiting = list(await store.open(place.machine.monotonic))
            await store.aclose()
        assert [each.made_at for each in waiting] == [pytest.approx(place.machine.monotonic - 7.0)] * 3
        assert [told.event for told in listener.told] == [STORE_RESTORED]
        assert listener.told[0].attributes["waiting"] == 3

    play(scenario)


def test_a_killed_process_loses_only_what_was_not_written(place: Place):
    """What `save` has written is there, although nothing was closed; what came after it is not."""

    async def scenario() -> None:
        killed = place.store()
        await killed.open(place.machine.monotonic)
        await killed.remember(1, prediction(place.machine.monotonic, 1.0))
        await killed._writer.save()  # noqa: SLF001
        await killed.remember(2, prediction(place.machine.monotonic, 2.0))
        killed._journal.close()  # noqa: SLF001 - as the kernel does
        assert await found(place, range(4)) == {1}

    play(scenario)


def test_time_goes_on_while_no_process_runs(place: Place):
    """A prediction that was 3,000 s old waits for ten minutes more, and no longer."""

    async def scenario() -> None:
        await fill(place, range(1), age=3000.0)
        await fill(place, range(1, 2), age=2000.0)
        place.machine.wait(601)
        assert await found(place, range(3)) == {1}

    play(scenario)


@pytest.mark.parametrize("step", [3600.0, -3600.0, 1e9])
def test_a_step_of_the_wall_clock_changes_nothing(place: Place, step: float):
    """While the machine has not been booted, only its monotonic clock counts."""

    async def scenario() -> None:
        await fill(place, range(1), age=3000.0)
        place.machine.wall += step
        assert await found(place, range(1)) == {0}

    play(scenario)


def test_after_a_boot_the_wall_clock_tells_how_long_ago_it_was(place: Place):
    """The monotonic clock has begun anew: the same age, by the other clock."""

    async def scenario() -> None:
        await fill(place, range(1), age=3000.0)
        await fill(place, range(1, 2), age=100.0)
        place.machine.boot_again(1000.0)
        async with place.opened() as store:
            joined = await store.join(1, 1.0, place.machine.monotonic)
            assert place.machine.monotonic - joined.prediction.made_at == pytest.approx(1100.0)
            with pytest.raises(UnknownId):
                await store.join(0, 1.0, place.machine.monotonic)
        place.machine.boot_again(-50_000.0)  # a wall clock that has lost the time: nothing lies in the future
        async with place.opened() as store:
            assert (await store.join(1, 1.0, place.machine.monotonic)).status == "duplicate"

    play(scenario)


def test_old_batches_go_and_the_file_does_not_grow(place: Place):
    """Ten hours of predictions and truths leave no more than an hour of them."""

    async def scenario() -> None:
        async with place.opened() as store:
            for hour in range(10):
                for number in range(200):
                    place.machine.wait(18.0)
                    now = place.machine.monotonic
                    await store.remember(f"{hour}.{number}", prediction(now - 300))
                    await store.join(f"{hour}.{number}", 1.0, now)
                    await store._writer.save()  # noqa: SLF001
        with closing(sqlite3.connect(place.file)) as connection:
            batches, oldest = connection.execute("SELECT count(*), min(monotonic) FROM batches").fetchone()
        assert place.machine.monotonic - oldest <= RETENTION + 18 + writer.WRITE_INTERVAL
        assert batches < 220
        assert place.file.stat().st_size < 2**17

    play(scenario)


def test_no_more_entries_are_kept_than_could_matter(place: Place):
    """Whatever the rate: a few for each prediction that may wait."""

    async def scenario() -> None:
        async with place.opened(most=10) as store:
            for number in range(100):
                place.machine.wait(6)
                for each in range(10):
                    await store.remember(100 * number + each, prediction(place.machine.monotonic))
                await store._writer.save()  # noqa: SLF001
        with closing(sqlite3.connect(place.file)) as connection:
            (entries,) = connection.execute("SELECT sum(facts) FROM batches").fetchone()
        assert 10 * FACTS_PER_PREDICTION <= entries <= 10 * (FACTS_PER_PREDICTION + 1)

    play(scenario)


def test_two_processes_do_not_share_a_file(place: Place, monkeypatch: pytest.MonkeyPatch):
    """The second one is told in one line whose setting it is, and what to do."""
    monkeypatch.setattr(durable, "LOCK_PATIENCE", 0.05)

    async def scenario() -> None:
        async with place.opened():
            with pytest.raises(StoreError, match=r"^CALSVC_STORE: .*waiting\.db is in use by another process; name"):
                await place.store().open(0.0)

    play(scenario)


def test_a_process_waits_for_the_one_before_it_to_leave(place: Place):
    """A replacement that is started early gets the file when the old process lets go of it."""

    async def scenario() -> None:
        leaving, coming = place.store(), place.store()
        await leaving.open(place.machine.monotonic)
        await leaving.remember(1, prediction(place.machine.monotonic, 1.0))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(coming.open, place.machine.monotonic)
            await anyio.sleep(0.2)
            await leaving.aclose()
        assert coming.statistics().pending == 1
        await coming.aclose()

    play(scenario)


@pytest.mark.parametrize("what", ["another database", "a folder", "no permission"])
def test_a_place_that_cannot_be_used_stops_the_start(place: Place, what: str):
    """One line; and nothing of somebody else's file is touched."""
    place.file.parent.mkdir()
    if what == "another database":
        with closing(sqlite3.connect(place.file)) as connection:
            connection.execute("CREATE TABLE theirs (a)")
    elif what == "a folder":
        place.file.mkdir()
    else:
        place.file = Path("/proc/nowhere/waiting.db")

    async def scenario() -> None:
        with pytest.raises(StoreError, match=r"^CALSVC_STORE: .*; name another file, or memory:// for none$"):
            await place.store().open(0.0)

    play(scenario)
    assert place.asides() == []


# --- damage -----------------------------------------------------------------------------------------------------------


def cut(file: Path) -> None:
    """Lose the last third."""
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size * 2 // 3)


def empty(file: Path) -> None:
    """Lose everything."""
    file.write_bytes(b"")


def overwritten(file: Path) -> None:
    """Hold something else."""
    file.write_bytes(b"not a database at all" * 4096)


def scratched(file: Path) -> None:
    """Lose pages in the middle."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(b"\xa5" * 8192)


def one_bit(file: Path) -> None:
    """Change one bit of one batch, in a place where MessagePack tells what follows."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        number, content = connection.execute("SELECT number, content FROM batches LIMIT 1 OFFSET 50").fetchone()
        changed = bytes([content[0] ^ 0x40]) + content[1:]
        connection.execute("UPDATE batches SET content = ? WHERE number = ?", (changed, number))


def lost(file: Path) -> None:
    """Lose the file, but not its log."""
    file.with_name(file.name + "-wal").write_bytes(b"half a log" * 500)
    file.unlink()


@pytest.mark.parametrize("damage", [cut, empty, overwritten, scratched, one_bit, lost])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(place: Place, damage: Callable):
    """The service starts, says what it found, and the damaged file is there for whoever wants to look at it."""

    async def scenario() -> None:
        await fill(place, range(400))
        damage(place.file)
        before = place.file.read_bytes() if place.file.exists() else b""
        with listening() as listener:
            assert await found(place, range(400)) == set()
        (told,) = [told for told in listener.told if told.event == STORE_DAMAGED]
        assert told.attributes["file"] == str(place.file)
        assert told.attributes["aside"] == "waiting.db.damaged"
        aside = place.file.with_name("waiting.db.damaged")
        assert (aside.read_bytes() if aside.exists() else b"") == before
        await fill(place, range(400, 410))
        assert await found(place, range(410)) == set(range(400, 410))
        empty(place.file)
        await fill(place, range(1))
        assert place.asides()[-1] == "waiting.db.damaged-2"  # and the first is still there

    play(scenario)


def test_the_file_of_an_earlier_version_is_put_aside_by_a_name_of_its_own(place: Place):
    """It cannot be read, and is not damaged: the service starts without what waits in it."""
    place.file.parent.mkdir()
    with closing(sqlite3.connect(place.file, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE batches (number INTEGER PRIMARY KEY, content BLOB NOT NULL) STRICT")
        connection.execute("PRAGMA user_version = 1")
    before = place.file.read_bytes()

    async def scenario() -> None:
        with listening() as listener:
            await fill(place, range(3))
        (told,) = [told for told in listener.told if told.event == STORE_DAMAGED]
        assert told.attributes["error.message"] == "was not written by this version"
        assert await found(place, range(4)) == set(range(3))

    play(scenario)
    assert place.file.with_name("waiting.db.format-1").read_bytes() == before


@pytest.mark.parametrize("version", [1, 3])
def test_the_file_of_a_later_version_or_another_program_stops_the_start(place: Place, version: int):
    """It is as it was."""
    place.file.parent.mkdir()
    with closing(sqlite3.connect(place.file, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE other (a)")
        connection.execute(f"PRAGMA user_version = {version}")
    before = place.file.read_bytes()

    async def scenario() -> None:
        with pytest.raises(StoreError, match="was not written by this version; name another file"):
            await place.store().open(0.0)

    play(scenario)
    assert place.file.read_bytes() == before
    assert place.asides() == []


def test_a_write_ahead_log_that_was_cut_off_loses_only_its_end(place: Place):
    """A killed process leaves one; what lies before the cut is read."""

    async def scenario() -> None:
        killed = place.store()
        await killed.open(place.machine.monotonic)
        for number in range(200):
            await killed.remember(number, prediction(place.machine.monotonic, float(number)))
            await killed._writer.save()  # noqa: SLF001
        log = place.file.with_name(place.file.name + "-wal")
        copy, log_copy = place.file.read_bytes(), log.read_bytes()
        killed._journal.close()  # noqa: SLF001
        place.file.write_bytes(copy)
        log.write_bytes(log_copy[: len(log_copy) * 2 // 3])
        kept = await found(place, range(200))
        assert kept == set(range(len(kept)))
        assert 50 < len(kept) < 200

    play(scenario)


# --- a disk that refuses ----------------------------------------------------------------------------------------------


def limited(store: DurableStore, pages: int) -> None:
    """Let the file have so many pages at most, as a full disk would."""
    store._journal._connection.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001


def test_a_full_disk_costs_nothing_as_long_as_the_process_lives(place: Place):
    """Predictions go on, the store says that it is degraded, once; with room again all is written."""

    async def scenario() -> None:
        with listening() as listener:
            async with place.opened() as store:
                limited(store, 10)
                for number in range(500):
                    await store.remember(f"{number}" * 20, prediction(place.machine.monotonic))
                await until(lambda: store.degraded)
                assert (await store.join("1" * 20, 1.0, place.machine.monotonic)).status == "matched"
                limited(store, 100_000)
                await until(lambda: not store.degraded)
        told = [told.event for told in listener.told]
        assert (told.count(STORE_DEGRADED), told.count(STORE_BACK), told.count(STORE_LOST)) == (1, 1, 0)
        assert "full" in next(t for t in listener.told if t.event == STORE_DEGRADED).attributes["error.message"]
        async with place.opened() as store:
            assert store.statistics().pending == 499
            assert (await store.join("1" * 20, 1.0, place.machine.monotonic)).status == "duplicate"

    play(scenario)


def test_facts_do_not_pile_up_before_a_disk_that_stays_full(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Past a bound they are let go; once there is room, all that is known is written, and it is all there."""
    monkeypatch.setattr(writer, "MOST_FACTS", 50)
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.01)

    async def scenario() -> None:
        async with place.opened() as store:
            limited(store, 3)
            for number in range(300):
                await store.remember(number, prediction(place.machine.monotonic, float(number)))
            await store.join(7, 1.0, place.machine.monotonic)
            await until(lambda: store.degraded)
            for number in range(300, 400):
                await store.remember(number, prediction(place.machine.monotonic, float(number)))
            await until(lambda: not store._writer._facts)  # noqa: SLF001
            limited(store, 100_000)
            await until(lambda: not store.degraded)
        assert await found(place, range(400)) == set(range(400)) - {7}

    play(scenario)


def test_an_end_on_a_full_disk_says_what_is_lost(place: Place):
    """It cannot be helped, but it is not silent."""

    async def scenario() -> None:
        with listening() as listener:
            async with place.opened() as store:
                limited(store, 3)
                for number in range(3000):
                    await store.remember(number, prediction(place.machine.monotonic))
        (lost,) = [told for told in listener.told if told.event == STORE_LOST]
        assert lost.attributes["predictions"] == 1000

    play(scenario)


@pytest.mark.parametrize("how", ["deleted", "replaced", "folder deleted"])
def test_a_file_that_was_taken_away_is_written_anew(place: Place, how: str, monkeypatch: pytest.MonkeyPatch):
    """SQLite would go on writing into what nobody can open any more."""
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.01)

    async def scenario() -> None:
        async with place.opened() as store:
            for number in range(10):
                await store.remember(number, prediction(place.machine.monotonic, float(number)))
            await until(lambda: not store._writer._facts)  # noqa: SLF001
            for file in [*place.file.parent.iterdir()]:
                file.unlink()
            if how == "replaced":
                overwritten(place.file)
            if how == "folder deleted":
                place.file.parent.rmdir()
            await store.remember(10, prediction(place.machine.monotonic, 10.0))
            await until(lambda: store._writer.complete and not store.degraded)  # noqa: SLF001
        assert await found(place, range(12)) == set(range(11))

    play(scenario)


def test_a_truth_of_a_file_that_was_written_anew_is_known_for_its_whole_retention(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    """Its age is its own in the new file, not that of the oldest truth that is kept beside it."""
    monkeypatch.setattr(writer, "RETRY_INTERVAL", 0.01)
    later = RETENTION / 64 - 5

    async def scenario() -> None:
        async with place.opened() as store:
            for number in range(2):
                await store.remember(number, prediction(place.machine.monotonic))
                await store.join(number, 7.0, place.machine.monotonic)
                place.machine.wait(later)
            place.file.unlink()
            await store.remember(2, prediction(place.machine.monotonic))
            await until(lambda: store._writer.complete and not store.degraded)  # noqa: SLF001
        place.machine.wait(RETENTION - later - 1)
        async with place.opened() as store:
            with pytest.raises(UnknownId):
                await store.join(0, 7.0, place.machine.monotonic)
            assert (await store.join(1, 7.0, place.machine.monotonic)).status == "duplicate"

    play(scenario)

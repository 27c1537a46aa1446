"""A store that all replicas share, in Redis or Valkey, and what a replica does while it is out of reach.

A prediction is told to the server before its answer goes out. Where the server does not answer, the prediction is held
here and told later; a truth is refused then, since nobody can say what became of it, and comes again. Everything may be
told twice: predictions and truths carry names of their own. So a replica that comes back simply tells all that the
server may not know, and one that finds the server empty gives back what it still has.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import anyio

from calsvc.feedback.facts import (
    Beside,
    Claim,
    Fact,
    Matched,
    Prediction,
    Settlement,
    made_at_of,
    nonce_of,
)
from calsvc.feedback.held import Held
from calsvc.feedback.link import Link, LinkDown, Presence, Sign
from calsvc.feedback.post import MOST_CALLS, Post, Reply
from calsvc.feedback.records import Joined, RecordId, Remembered, Shadow, StoreStatistics
from calsvc.feedback.store import Late, LateJoin, LateReplacement
from calsvc.http.errors import StoreError, StoreUnavailable, TruthConflict, UnknownId
from observability.events import tell
from observability.signals import STORE_BACK, STORE_DEGRADED, STORE_HELD, STORE_LOST, STORE_RESTORED
from sqlitefile import FileError

HEARTBEAT: Final = 0.5
"""Seconds between two signs of life; without one for 1.5 s a replica counts as out of touch (calls.lua)."""
DOUBT: Final = 10.0
"""Seconds back from its loss of which a server may have forgotten what it had confirmed: not yet synced, or copied."""
JUMP: Final = 2.0
"""Seconds that the server's clock may gain or lose between two heartbeats before it has been set."""
LAST_WORDS: Final = 2.0
"""Seconds for what is still to be told when the process goes."""


class Bounds(NamedTuple):
    """Predictions that may wait at the server, and facts that are kept here to give back, at most."""

    pending: int
    known: int


class SharedStore:
    """A `JoinStore` of many replicas.

    Args:
        link: the way to the server.
        instance: this replica's name among all.
        clock: monotonic seconds.
        bounds: how much is kept.
        held: what the server was not told, or may not have heard.
    """

    def __init__(self, link: Link, instance: bytes, clock: Callable[[], float], *, bounds: Bounds, held: Held) -> None:
        self.degraded = False
        self._link = link
        self._post = Post(link)
        self._instance = instance
        self._clock = clock
        self._bounds = bounds
        self._held = held
        self._known: deque[tuple[float, Prediction | Settlement]] = deque(maxlen=bounds.known)
        """What the server has confirmed, and when."""
        self._late: Callable[[Late], None] = lambda _: None
        self._presence: Presence | None = None
        self._heard_at = self._in_touch_since = self._lost_at = clock()
        self._waiting = self._expired = self._overflowed = 0

    async def open(self, now: float) -> Iterable[Remembered]:  # noqa: ARG002 - the server has its own
        """See `JoinStore.open`. What waits there is not ours alone; and without it, predictions are answered too."""
        try:
            await self._held.restore()
        except FileError as error:
            raise StoreError(f"CALSVC_STORE_HELD: {error}; name another folder, or let it be read") from None
        try:
            await self._hear("look" if self._held else "come")
        except LinkDown as down:
            self._lose(down)
        if self._held:
            self._tell_restored()
            self.degraded = True  # until `run` has told it, and charged what truths there are
        return ()

    async def run(self, late: Callable[[Late], None]) -> None:
        """Carry facts to the server, and keep in touch."""
        self._late = late
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._post.run)
            tasks.start_soon(self._held.run)
            tasks.start_soon(self._keep_in_touch)

    async def aclose(self) -> None:
        """Tell what is still to be told, as far as the server listens, and take leave."""
        with anyio.move_on_after(LAST_WORDS, shield=True):
            try:
                if self.degraded:
                    await self._come_back()
                await self._link.leave()
            except LinkDown:
                pass
        with anyio.CancelScope(shield=True):
            file, predictions = self._held.file, self._held.predictions
            if not await self._held.aclose():
                tell(STORE_LOST, {"predictions": predictions})
            elif predictions:
                tell(STORE_HELD, {"predictions": predictions, "file": str(file)})
            await self._link.aclose()

    async def remember(self, record_id: RecordId, prediction: Remembered) -> float | None:
        """See `JoinStore.remember`."""
        if self._waiting >= self._bounds.pending:
            self._overflowed += 1
            return None
        nonce = nonce_of(self._instance, prediction.made_at)
        reply = await self._tell(Prediction.of(record_id, prediction, nonce))
        return None if reply is None else self._replaced(reply)

    async def attach(self, record_id: RecordId, made_at: float, shadow: Shadow) -> bool:
        """See `JoinStore.attach`."""
        nonce = nonce_of(self._instance, made_at)
        reply = await self._tell(Beside(record_id, shadow.kcal, shadow.series, nonce))
        return reply is None or reply[0] == b"ok"

    async def join(self, record_id: RecordId, true_kcal: float, now: float) -> Joined:
        """See `JoinStore.join`."""
        claim = Claim(record_id, true_kcal, now, os.urandom(8))
        reply = None if self.degraded else await self._tell(claim)
        if reply is None or reply[0] == b"unsure" or (reply[0] == b"unknown" and self._held.elsewhere):
            raise StoreUnavailable("what waits for its truth cannot be looked up at the moment; send it again")
        if reply[0] == b"unknown":
            raise UnknownId(f"no prediction of id {record_id!r} waits for its truth")
        if reply[0] == b"conflict":
            raise TruthConflict(f"id {record_id!r} has the truth {float(reply[1]):g} kcal already, which stays")
        if reply[0] == b"duplicate":
            return Joined("duplicate", None)
        return Joined("matched", self._matched(claim, reply))

    def statistics(self) -> StoreStatistics:
        """Return what waits at the server, as it was a second ago, and here; and the losses that this replica saw."""
        return StoreStatistics(self._waiting + len(self._held), self._expired, self._overflowed + self._held.overflowed)

    def sweep(self, now: float, limit: int) -> None:
        """Nothing: the server forgets by itself."""

    # --- telling ------------------------------------------------------------------------------------------------------

    async def _tell(self, fact: Fact) -> Reply | None:
        """Tell the server, and return what it says; hold the fact where it does not listen."""
        if self.degraded:
            self._held.add(fact)
            return None
        try:
            reply = await self._post.send(fact.call(self._clock()))
        except LinkDown as down:
            self._lose(down)
            self._held.add(fact)
            return None
        if isinstance(fact, Prediction):
            self._known.append((self._clock(), fact))
        return reply

    def _replaced(self, reply: Reply) -> float | None:
        """Return when the replaced prediction was made: exactly if by this replica, else from its age at the server."""
        if len(reply) == 1:
            return None
        _, nonce, age = reply
        made_at = made_at_of(nonce, self._instance)
        return self._clock() - age / 1e3 if made_at is None else made_at

    def _matched(self, claim: Claim, reply: Reply) -> Remembered:
        now = self._clock()
        prediction, nonce = Matched.read(reply, now, claim.came_at)
        self._known.append((now, Settlement(claim.id, nonce, prediction.made_at, claim.came_at, claim.truth)))
        return prediction

    # --- keeping in touch ---------------------------------------------------------------------------------------------

    async def _keep_in_touch(self) -> None:
        while True:
            try:
                if self.degraded:
                    await self._come_back()
                else:
                    await self._stay()
            except LinkDown as down:
                self._lose(down)
            await anyio.sleep(HEARTBEAT)

    async def _stay(self) -> None:
        """Give a sign of life. A server that does not know this one, or whose clock was set, may have lost anything."""
        before, heard_at = self._presence, self._heard_at
        presence = await self._hear("stay")
        passed = (presence.at - before.at) / 1e3 - (self._heard_at - heard_at) if before else 0.0
        if not presence.known or abs(passed) > JUMP:
            await self._give([fact for _, fact in self._known])
        if not presence.here:
            await self._hear("come")
        if self._held.elsewhere:
            await self._adopt()

    async def _adopt(self) -> None:
        """Tell what other replicas held that have gone since."""
        with suppress(FileError):  # somebody who starts will say it
            await self._held.restore()
        if self._held:
            self._tell_restored()
        if gone := await self._give_all_held():
            await self._link.leave(*gone)

    def _tell_restored(self) -> None:
        tell(STORE_RESTORED, {"file": str(self._held.file.parent), "waiting": self._held.predictions})

    async def _come_back(self) -> None:
        """Tell the server all that it may not know, and be there again. Its name may mean another machine by now."""
        await self._link.renew()
        presence = await self._hear("look")
        await self._give([fact for at, fact in self._known if at >= self._lost_at - DOUBT or not presence.known])
        gone = await self._give_all_held()
        self.degraded = False  # without a pause since the last was told: nothing is held here any more
        self._in_touch_since = self._clock()
        await self._hear("come")
        if gone:
            await self._link.leave(*gone)
        tell(STORE_BACK, {"store": self._link.name})

    async def _give_all_held(self) -> list[bytes]:
        """Return the names of the replicas that are gone, and whose facts were among them."""
        while self._held:
            await self._held.give(MOST_CALLS, self._give_held)
        return self._held.told()

    async def _give_held(self, facts: Sequence[Fact]) -> None:
        replies = await self._give(facts)
        now = self._clock()
        for fact, reply in zip(facts, replies, strict=True):
            if isinstance(fact, Prediction):
                self._known.append((now, fact))
                if (made_at := self._replaced(reply)) is not None:
                    self._late(LateReplacement(made_at))
            elif isinstance(fact, Claim) and reply[0] == b"matched":
                self._late(LateJoin(self._matched(fact, reply), fact.true_kcal, fact.came_at))

    async def _give(self, facts: Sequence[Fact | Settlement]) -> list[Reply]:
        """Tell facts, some of which may have been told before; return a reply to each."""
        replies: list[Reply] = []
        for first in range(0, len(facts), MOST_CALLS):
            now = self._clock()
            calls = [each.call(now, again=True) for each in facts[first : first + MOST_CALLS]]
            replies += await self._link.send(calls)
        return replies

    async def _hear(self, sign: Sign) -> Presence:
        others = [each for each in self._presence.replicas if each != self._instance] if self._presence else []
        in_touch = 0.0 if self.degraded else self._clock() - self._in_touch_since
        self._presence = await self._link.presence(sign, in_touch=in_touch, others=others)
        self._heard_at = self._clock()
        self._waiting = self._presence.waiting
        self._expired += self._presence.expired
        return self._presence

    def _lose(self, down: LinkDown) -> None:
        """Know that the server is out of reach."""
        if not self.degraded:
            self.degraded = True
            self._lost_at = self._clock()
            tell(STORE_DEGRADED, {"store": self._link.name, "error.message": str(down)})

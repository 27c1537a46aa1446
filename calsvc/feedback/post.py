"""Facts on their way to the server: what comes while others are under way goes together with the next."""

import asyncio
from typing import Any, Final, NamedTuple

import anyio

from calsvc.feedback.facts import Call
from calsvc.feedback.link import Link, LinkDown

LANES: Final = 2
"""Batches under way at once: while the server works on one, the next is read."""
MOST_CALLS: Final = 500
"""Calls in one go: a server does nothing else meanwhile, and so many take it some three milliseconds."""

Reply = list[Any]


class _Posted(NamedTuple):
    call: Call
    reply: "asyncio.Future[Reply]"


class Post:
    """Sends calls in batches while `run` runs."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._posted: list[_Posted] = []
        self._come = anyio.Event()

    async def send(self, call: Call) -> Reply:
        """Send a call; return the reply.

        Raises:
            LinkDown: it may have arrived, or not.
        """
        posted = _Posted(call, asyncio.get_running_loop().create_future())
        self._posted.append(posted)
        self._come.set()
        return await posted.reply

    async def run(self) -> None:
        """Carry batches until cancelled."""
        async with anyio.create_task_group() as lanes:
            for _ in range(LANES):
                lanes.start_soon(self._carry)

    async def _carry(self) -> None:
        while True:
            await self._come.wait()
            batch, self._posted = self._posted[:MOST_CALLS], self._posted[MOST_CALLS:]
            if not self._posted:
                self._come = anyio.Event()
            if batch:
                await self._deliver(batch)

    async def _deliver(self, batch: list[_Posted]) -> None:
        try:
            replies = await self._link.send([each.call for each in batch])
        except LinkDown as down:
            rest, self._posted = self._posted, []  # they would only wait as long for the same
            for each in (*batch, *rest):
                if not each.reply.done():
                    each.reply.set_exception(LinkDown(str(down)))
            return
        for each, reply in zip(batch, replies, strict=True):
            if not each.reply.done():
                each.reply.set_result(reply)

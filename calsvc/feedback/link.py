"""The way to the server that all replicas share: Redis or Valkey, asked by two scripts that run there."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import anyio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from calsvc.feedback.facts import Call

PATIENCE: Final = 0.5
"""Seconds that the server may take for an answer, or for a connection, before it counts as out of reach."""
CONNECTIONS: Final = 4
REPLICAS: Final = b"calsvc:replicas"
MISSING: Final = b"calsvc:missing"
SHARED: Final = (REPLICAS, MISSING, b"calsvc:waiting")
"""Keys that both scripts use."""
FAILURES: Final = (RedisError, OSError, RuntimeError)
"""RuntimeError is what uvloop says of a connection that has just been closed."""
Sign = Literal["look", "stay", "come"]
"""`stay` counts only where the server has not lost sight of this replica; see presence.lua."""
HERE: Final = Path(__file__).parent


class LinkDown(Exception):
    """The server cannot be reached, or does not do what it is asked."""


class Presence(NamedTuple):
    """How things stand at the server.

    Args:
        at: milliseconds by the server's clock.
        known: whether it knew this replica.
        here: whether it takes this replica for there, with nothing held back.
        waiting: predictions that wait, of all replicas.
        expired: predictions that have expired since any replica asked last.
        replicas: all that are there, or were a minute ago.
    """

    at: int
    known: bool
    here: bool
    waiting: int
    expired: int
    replicas: Sequence[bytes]


class Link:
    """A connection pool and the two scripts. Every method may raise `LinkDown`; none tries twice.

    Args:
        url: `redis://` or `rediss://`.
        instance: the name of this replica among all.
        retention: seconds.
    """

    def __init__(self, url: str, instance: bytes, retention: float) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "localhost", parts.port or 6379)
        self.name = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
        """The address, without a password."""
        self._client = Redis.from_url(
            url,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
            max_connections=CONNECTIONS,
            client_name="calsvc",
        )
        self._calls = self._client.register_script((HERE / "calls.lua").read_bytes())
        self._presence = self._client.register_script((HERE / "presence.lua").read_bytes())
        self._fixed = (instance, round(retention * 1e3))

    async def send(self, calls: Sequence[Call]) -> list[list[Any]]:
        """Send calls in one go; return a reply for each."""
        keys = [*SHARED, *(call.key for call in calls)]
        arguments = [*self._fixed, *(each for call in calls for each in call.arguments)]
        try:
            replies: list[list[Any]] = await self._calls(keys, arguments)
        except FAILURES as error:
            raise _down(error) from None
        return replies

    async def presence(self, sign: Sign, *, in_touch: float, others: Iterable[bytes]) -> Presence:
        """Ask how things stand, and say that this replica is still there, or anew, and holds nothing back.

        `in_touch`: seconds without a break until now. `others`: replicas to wait for, should the server not know them.
        """
        arguments: list[bytes | int] = [*self._fixed, sign.encode(), round(in_touch * 1e3), *others]
        try:
            at, known, here, waiting, expired, replicas = await self._presence(SHARED, arguments)
        except FAILURES as error:
            raise _down(error) from None
        return Presence(at, bool(known), bool(here), waiting, expired, replicas)

    async def leave(self, *predecessors: bytes) -> None:
        """Say that this replica will not come back, or that others will not: nobody has to wait for them."""
        names = predecessors or self._fixed[:1]
        try:
            await self._client.zrem(REPLICAS, *names)
            await self._client.zrem(MISSING, *names)
        except FAILURES as error:
            raise _down(error) from None

    async def renew(self) -> None:
        """Close the connections that nobody is using, and find the server; the next calls make new connections.

        The others come to their end in `PATIENCE`: taken away from under a call, they fail in ways of their own. The
        name is asked for here first: given up within a connection that is being made, uvloop complains of it later on.
        """
        try:
            await self._client.connection_pool.disconnect(inuse_connections=False)
            with anyio.fail_after(PATIENCE):
                await anyio.getaddrinfo(*self._place)
        except TimeoutError:
            raise LinkDown(f"nobody has said where {self._place[0]} is") from None
        except FAILURES as error:
            raise _down(error) from None

    async def aclose(self) -> None:
        """Close the connections for good."""
        await self._client.aclose()


def _down(error: Exception) -> LinkDown:
    return LinkDown(f"{type(error).__name__}: {error}")

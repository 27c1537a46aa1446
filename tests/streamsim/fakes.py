"""Services to stream against, on real sockets: one that keeps count, and raw ones that misbehave."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from aiohttp import web
from anyio.abc import SocketStream

from streamsim.arrivals import Schedule
from streamsim.rows import Rows
from streamsim.run import Plan

Connection = Callable[[SocketStream], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CountingService:
    """Answers like the service, remembers everything, and lets a test decide the next answers.

    `gate(path, number)` runs before the `number`th request of a path is answered; what it returns is sent instead.
    With a `token`, whoever does not send it is refused.
    """

    def __init__(self) -> None:
        self.url = ""
        self.token = ""
        self.authorizations: list[str | None] = []
        self.predicted: dict[int | str, float] = {}
        self.truths: dict[int | str, float] = {}
        self.statuses: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.headers: list[Mapping[str, str]] = []
        self.traceparents: list[str] = []
        self.feedback_traceparents: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.gate: Callable[[str, int], Awaitable[web.Response | None]] = _open
        self._news = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the counts holds; it is looked at after each answer."""
        with anyio.fail_after(20):
            while not condition():
                self._news = anyio.Event()
                await self._news.wait()

    @web.middleware
    async def refuse_strangers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer 401 to whoever does not send the token, where there is one."""
        self.authorizations.append(request.headers.get("Authorization"))
        if self.token and self.authorizations[-1] != f"Bearer {self.token}":
            return web.json_response({"type": "urn:calsvc:problem:unauthorized"}, status=401)
        return await handler(request)

    async def predict(self, request: web.Request) -> web.Response:
        """Predict half the age, and remember it."""
        row = await request.json()
        self.requests["predict"] += 1
        self._told()
        if (other := await self.gate("predict", self.requests["predict"])) is not None:
            return other
        self.bodies.append(row)
        self.headers.append(request.headers)
        self.traceparents.append(request.headers.get("traceparent", ""))
        self.predicted[row["id"]] = row["Age"] / 2
        self._told()
        return web.json_response({"id": row["id"], "Calories": row["Age"] / 2})

    async def feedback(self, request: web.Request) -> web.Response:
        """Join a truth as the contract says."""
        body = await request.json()
        self.requests["feedback"] += 1
        self.headers.append(request.headers)
        self.feedback_traceparents.append(request.headers.get("traceparent", ""))
        self._told()
        if (other := await self.gate("feedback", self.requests["feedback"])) is not None:
            return other
        status = self._join(body["id"], body["Calories"])
        self.statuses[status] += 1
        self._told()
        code = {"unknown": 404, "conflict": 409}.get(status, 200)
        return web.json_response({"id": body["id"], "status": status}, status=code)

    def _join(self, record_id: int | str, truth: float) -> str:
        if record_id not in self.predicted:
            return "unknown"
        if record_id not in self.truths:
            self.truths[record_id] = truth
            return "matched"
        return "duplicate" if self.truths[record_id] == truth else "conflict"

    def _told(self) -> None:
        self._news.set()


async def _open(_path: str, _number: int) -> None:
    return None


@asynccontextmanager
async def serving(service: CountingService, port: int = 0) -> AsyncIterator[CountingService]:
    """Serve it on a loopback port, and set its URL."""
    app = web.Application(middlewares=[service.refuse_strangers])
    app.router.add_post("/predict", service.predict)
    app.router.add_post("/feedback", service.feedback)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(handle: Connection) -> AsyncIterator[str]:
    """Serve raw connections on a loopback port; yields the URL."""

    async def one(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await handle(stream)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, one)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  no Django here
        yield f"http://127.0.0.1:{port}"
        group.cancel_scope.cancel()


async def read_request(stream: SocketStream) -> dict[str, Any]:
    """Read one whole request and return its JSON body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(
        next(line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    )
    while len(body) < length:
        body += await stream.receive()
    return dict(json.loads(body))


def http_answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """Write a response that keeps the connection open."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def make_rows(count: int) -> Rows:
    """Rows with ids 1, 2, ..., whose truth is the id and whose age is 20 more."""
    lines = (
        f'{i}\t{float(i)!r}\t{{"Sex":"male","Age":{i + 20}.0,"Height":170.0,"Weight":70.0,"Duration":10.0,'
        f'"Heart_Rate":100.0,"Body_Temp":39.5}}\n'
        for i in range(1, count + 1)
    )
    return Rows("".join(lines).encode())


def make_plan(url: str, folder: Path, schedule: Schedule, **changes: Any) -> Plan:
    """A plan with short delays and 50 rows."""
    chosen: dict[str, Any] = {
        "url": url,
        "schedule": schedule,
        "journal": folder / "owed.db",
        "rows": make_rows(50),
        "feedback_delay": 0.05,
        "grace": 5.0,
        "timeout": 5.0,
    }
    return Plan(**(chosen | changes))


class Silence:
    """A screen that shows nothing."""

    async def watch(self, progress: Callable[[], Any]) -> None:
        """Look once, and stay."""
        progress()
        await anyio.sleep_forever()

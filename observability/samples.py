"""Whose work a sample shows: tags of the Pyroscope client on the thread that works, while it does.

Tags belong to threads, and on an event loop one thread does the work of all requests in turn. So a request's tags are
put on whenever it is worked on, and taken off when it waits. The client reads a stack first and the thread's tags some
microseconds later: near the end of a request, it finds those of what came next.
"""

from collections.abc import Callable, Collection, Coroutine, Generator
from contextlib import AbstractContextManager
from types import coroutine
from typing import Any, Final, TypeVar

from starlette.types import Receive, Scope, Send

SAMPLE_RATE: Final = 20
"""Stacks a second. Of a full core's throughput, 20 took about 1 %, 50 took 4 % and 100 took 5 %."""
ENDPOINT: Final = "endpoint"
MODEL_VERSION: Final = "model_version"
SPAN_ID: Final = "span_id"
"""Tag that Pyroscope and Grafana know: 16 hexadecimal digits, the `PROFILE_ID` of the span."""
PROFILE_ID: Final = "pyroscope.profile.id"
"""Attribute of a span that has samples of its own."""
WORTH_A_PROFILE: Final = 10**9 // SAMPLE_RATE
"""Nanoseconds. A span that is shorter has most likely no sample, and a link from it would lead to nothing."""
WORK: Final = "calsvc.work"
"""Key of the `Work` in the ASGI scope of a request that is tagged."""
T = TypeVar("T")
AsyncApp = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]
"""An ASGI application of which a call is a coroutine, as it is of one that is defined by `async def`."""


class Work:
    """What is done for one request. Entered for each step of it, not for the whole."""

    __slots__ = ("_client", "_endpoint", "_span")

    def __init__(self, client: Any, endpoint: str) -> None:
        self._client = client
        self._endpoint = endpoint
        self._span = ""

    def of_span(self, span_id: int) -> None:
        """Tag with the request's span what follows."""
        self._span = f"{span_id:016x}"
        self._client.add_thread_tag(SPAN_ID, self._span)

    def __enter__(self) -> None:
        self._client.add_thread_tag(ENDPOINT, self._endpoint)
        if self._span:
            self._client.add_thread_tag(SPAN_ID, self._span)

    def __exit__(self, *_: object) -> None:
        self._client.remove_thread_tag(ENDPOINT, self._endpoint)
        if self._span:
            self._client.remove_thread_tag(SPAN_ID, self._span)


class OtherModel:
    """Work of another version of the model than of the one that serves."""

    __slots__ = ("_client", "_other", "_serving")

    def __init__(self, client: Any, other: str, serving: str) -> None:
        self._client, self._other, self._serving = client, other, serving

    def __enter__(self) -> None:
        self._client.remove_thread_tag(MODEL_VERSION, self._serving)
        self._client.add_thread_tag(MODEL_VERSION, self._other)

    def __exit__(self, *_: object) -> None:
        self._client.remove_thread_tag(MODEL_VERSION, self._other)
        self._client.add_thread_tag(MODEL_VERSION, self._serving)


class Tagged:
    """ASGI application that tags its work on some paths."""

    def __init__(self, app: AsyncApp, client: Any, paths: Collection[str]) -> None:
        self._app = app
        self._client = client
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the `Work` in the scope where it is tagged."""
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        scope[WORK] = work = Work(self._client, scope["path"])
        await in_steps(self._app(scope, receive, send), work)


@coroutine
def in_steps(work: Coroutine[Any, Any, T], tags: AbstractContextManager[None]) -> Generator[Any, Any, T]:
    """Do `work`, in the context of `tags` whenever it runs, and outside of it whenever it waits: others run then."""
    resume, argument = work.send, None
    while True:
        with tags:
            try:
                awaited = resume(argument)
            except StopIteration as done:
                returned: T = done.value
                return returned
        try:
            resume, argument = work.send, (yield awaited)
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation above all: it is the work's to handle
            resume, argument = work.throw, error

"""One request to the service, and what goes along with it: trace context always, a span where spans are exported."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from streamsim.answers import TRACED, Answer, Cause, Identity

Headers = Callable[[Identity], Mapping[str, str]]
"""Returns the headers that carry a trace context."""
_NOTHING: Final = nullcontext()


@dataclass(slots=True)
class Call:
    """One request, and how it stands."""

    path: str
    url: str
    body: bytes
    identity: Identity
    scope: anyio.CancelScope
    """Its deadline is the request's."""
    linked: tuple[int, int] | None = None
    """Trace and span id of the request that this one is about."""
    on_idle_connection: bool = False
    """Sent on a connection that had served before, and not a byte has come back."""
    resends: int = 0
    """How many times it was sent before."""
    failed_in_span: bool = False
    """Whether the span that it has says already that it failed."""
    no_connection: str = ""
    """Why there was none, where there was none."""
    answer: Answer | None = None
    """What has come of it; None as long as it is under way, and where it was cancelled."""

    @property
    def cause(self) -> Cause | None:
        """Return what became of it; None where the run was interrupted meanwhile."""
        if self.answer is not None:
            return self.answer.cause
        return Cause.TIMEOUT if self.scope.cancel_called else None


class CallTracing(Protocol):
    """Decides what is sampled, and makes spans of requests."""

    share: float
    """Of the records, that are sampled."""

    def headers(self, identity: Identity) -> Mapping[str, str]:
        """Return the headers that carry a request's trace context to the service."""

    def instrumented(self) -> AbstractContextManager[None]:
        """Let the HTTP sessions that are opened meanwhile make spans of their requests."""

    def request(self, call: Call) -> AbstractContextManager[None]:
        """Observe a request while it is sent; `call.answer` is set then, unless it was cancelled."""


class ContextOnly:
    """Asks the service to sample a share of the records, and makes no spans."""

    def __init__(self, share: float = TRACED, headers: Headers | None = None) -> None:
        self.share = share
        self.headers = headers or w3c_headers

    def instrumented(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return _NOTHING

    def request(self, _call: Call) -> AbstractContextManager[None]:
        """Do nothing."""
        return _NOTHING


def w3c_headers(identity: Identity) -> Mapping[str, str]:
    """Return W3C Trace Context, as OpenTelemetry's default propagator writes it, which need not be loaded for that."""
    return {"traceparent": identity.traceparent}

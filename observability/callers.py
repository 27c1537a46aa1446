"""Who has asked: a caller's place in its trace, as W3C Trace Context sends it along.

Understood exactly as OpenTelemetry's propagator understands it, but without its warnings: what a client makes up would
fill the log, a line a request.
"""

import re
from typing import Final

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from observability.sampling import TRACEPARENT, Headers

LONGEST_STATE: Final = 8192
"""Characters of a tracestate, all of its headers together."""
MOST_MEMBERS: Final = 32
_MEMBER: Final = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=([ -+\--<>-~]{0,255}[!-+\--<>-~])"  # printable ASCII without comma and equals sign, no space at the end
)


def caller_of(headers: Headers) -> SpanContext | None:
    """Return the caller's span, None where it sent none that is valid. A `tracestate` that is not valid is dropped."""
    parent: bytes | None = None
    states: list[bytes] = []
    for name, value in headers:
        if name == b"traceparent" and parent is None:
            parent = value
        elif name == b"tracestate":
            states.append(value)
    sent = TRACEPARENT.fullmatch(parent) if parent is not None else None
    if sent is None:
        return None
    flags = TraceFlags(int(sent["flags"], 16))
    state = _state(b",".join(states).decode("latin-1")) if states else None
    return SpanContext(
        int(sent["trace"], 16), int(sent["span"], 16), is_remote=True, trace_flags=flags, trace_state=state
    )


def _state(text: str) -> TraceState | None:
    if len(text) > LONGEST_STATE:
        return None
    members = [_MEMBER.fullmatch(part) for part in (each.strip(" \t") for each in text.split(",")) if part]
    pairs = {member[1]: member[2] for member in members if member is not None}
    # Without a member that is malformed, or comes twice: it is all or nothing.
    return TraceState(list(pairs.items())) if len(pairs) == len(members) <= MOST_MEMBERS else None

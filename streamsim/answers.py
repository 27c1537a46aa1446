"""What became of a request, and what an answer has to hold to be a good one. Pure."""

import json
import math
import zlib
from enum import StrEnum
from typing import Any, Final, NamedTuple

TRACED: Final = 0.1
"""Share of the records that are sampled, unless OTEL_TRACES_SAMPLER says another one."""


class Cause(StrEnum):
    """What became of a request."""

    OK = "ok"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    HTTP_4XX = "http_4xx"
    HTTP_503 = "http_503"
    HTTP_5XX = "http_5xx"
    BAD_ANSWER = "bad_answer"
    NOT_SENT = "not_sent"
    """The simulator itself had no room for it: too many in flight, or no file descriptor left."""


class Identity(NamedTuple):
    """A place in a trace that the service may put its own below. `traced`: it is asked to."""

    trace_id: int
    span_id: int
    traced: bool

    @property
    def traceparent(self) -> str:
        """W3C Trace Context."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.traced:02x}"

    @property
    def reference(self) -> str:
        """For a later span to link to; see `linked_by`."""
        return f"{self.trace_id:032x}{self.span_id:016x}"

    @property
    def ids(self) -> dict[str, str]:
        """As labels of an exemplar."""
        return {"trace_id": f"{self.trace_id:032x}", "span_id": f"{self.span_id:016x}"}


class Answer(NamedTuple):
    """One answer, or the lack of one: `status` is 0 without an answer, `retry_after` is in seconds."""

    cause: Cause
    status: int = 0
    document: dict[str, Any] | None = None
    """The body, where it is a JSON object."""
    retry_after: float = 0.0
    trace: Identity | None = None
    """Where it is found in a trace, if the service was asked for one."""


def linked_by(reference: str | None) -> tuple[int, int] | None:
    """Read what `Identity.reference` wrote."""
    return (int(reference[:32], 16), int(reference[32:], 16)) if reference else None


def is_traced(id_json: str, share: float = TRACED) -> bool:
    """Decide by the record's id: its prediction and its feedback, minutes later, are both traced or neither is."""
    return zlib.crc32(id_json.encode()) < share * 2**32


def document_of(content: bytes | None) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else."""
    try:
        document = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def cause_of(status: int) -> Cause:
    """Name any status but 200."""
    if status == 503:
        return Cause.HTTP_503
    if 400 <= status < 500:
        return Cause.HTTP_4XX
    return Cause.HTTP_5XX if status >= 500 else Cause.BAD_ANSWER


def seconds_of(retry_after: str) -> float:
    """Read Retry-After in its form of whole seconds; 0 for any other."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0


def is_prediction(document: dict[str, Any] | None, sent: int | str) -> bool:
    """Whether it is a finite number of kcal for the id that was sent."""
    calories = (document or {}).get("Calories")
    if not isinstance(calories, int | float) or isinstance(calories, bool):
        return False
    try:
        return math.isfinite(calories) and _same_id(document, sent)
    except OverflowError:  # an integer beyond every float
        return False


def is_status(document: dict[str, Any] | None, sent: int | str) -> bool:
    """Whether it says that the truth of the id that was sent has met its prediction, now or before."""
    return (document or {}).get("status") in {"matched", "duplicate"} and _same_id(document, sent)


def _same_id(document: dict[str, Any] | None, sent: int | str) -> bool:
    answered = (document or {}).get("id")
    return type(answered) is type(sent) and answered == sent

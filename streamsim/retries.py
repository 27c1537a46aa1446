"""When a request that failed in passing is tried again. Pure."""

from typing import Final

from streamsim.answers import Answer, Cause

FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 30.0
LONGEST_RETRY_AFTER_S: Final = 300.0
PASSING: Final = (Cause.REFUSED, Cause.CLOSED, Cause.TIMEOUT, Cause.HTTP_503)
PASSING_STATUSES: Final = (429, 502, 504)
"""Come again later; whoever stands before the service did not reach it. A 500 is the service's own failure with this
very record, as are the other 4xx: they would fail again."""
RETRIED: Final = (*PASSING, Cause.HTTP_4XX, Cause.HTTP_5XX)
"""Causes that some answer worth another try has."""


def is_passing(answer: Answer) -> bool:
    """Whether the same request may well succeed in a moment."""
    return answer.cause in PASSING or answer.status in PASSING_STATUSES


def retry_delay(attempts: int, retry_after: float, jitter: float) -> float:
    """Seconds until the next try after `attempts` failed ones: doubling, halved at most by `jitter` in 0..1.

    A longer Retry-After of the service is honoured, up to five minutes.
    """
    backoff = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempts - 1, 16))
    return max(backoff * (1 - jitter / 2), min(retry_after, LONGEST_RETRY_AFTER_S))


def pause_within(left: float, last: float, delay: float, retry_after: float) -> float | None:
    """Seconds until the next try of a request that has `left` of them; None where there is no time for one.

    The last try begins `last` seconds before the end, unless the service has asked for more patience than that.
    """
    latest = left - last
    return min(delay, latest) if latest > 0 and retry_after <= latest else None

"""What is tried again, and when: numbers in, numbers out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamsim.answers import Answer, Cause
from streamsim.retries import RETRIED, is_passing, pause_within, retry_delay

seconds = st.floats(0, 1e4)


def test_retries_back_off_and_honour_retry_after():
    """Doubling up to 30 s, halved at most by jitter; the service's wish counts up to five minutes."""
    assert [retry_delay(n, 0, jitter=0) for n in (1, 2, 3, 7, 100)] == [0.5, 1, 2, 30, 30]
    assert retry_delay(1, 0, jitter=1) == 0.25
    assert retry_delay(1, 12, jitter=0) == 12
    assert retry_delay(1, float("inf"), jitter=0) == 300


@pytest.mark.parametrize(
    ("answer", "passing"),
    [
        (Answer(Cause.REFUSED), True),
        (Answer(Cause.CLOSED), True),
        (Answer(Cause.TIMEOUT), True),
        (Answer(Cause.HTTP_503, 503), True),
        (Answer(Cause.HTTP_5XX, 502), True),
        (Answer(Cause.HTTP_5XX, 504), True),
        (Answer(Cause.HTTP_4XX, 429), True),
        (Answer(Cause.HTTP_5XX, 500), False),
        (Answer(Cause.HTTP_5XX, 501), False),
        (Answer(Cause.HTTP_4XX, 401), False),
        (Answer(Cause.HTTP_4XX, 404), False),
        (Answer(Cause.HTTP_4XX, 422), False),
        (Answer(Cause.BAD_ANSWER, 200), False),
        (Answer(Cause.NOT_SENT), False),
        (Answer(Cause.OK, 200), False),
    ],
)
def test_what_may_pass_is_tried_again_and_nothing_else(answer: Answer, passing: bool):
    """Nobody there, nobody behind the proxy, too many; not what the service itself has decided about this record."""
    assert is_passing(answer) is passing
    assert not passing or answer.cause in RETRIED


@given(left=seconds, last=seconds, delay=seconds, retry_after=seconds)
def test_a_pause_leaves_time_for_the_try_after_it(left: float, last: float, delay: float, retry_after: float):
    """Never longer than the backoff, never into the last try's time, and none where the service asks for more."""
    pause = pause_within(left, last, max(delay, retry_after), retry_after)
    if pause is None:
        assert left <= last or retry_after > left - last
    else:
        assert retry_after <= pause <= max(delay, retry_after)
        assert pause <= left - last

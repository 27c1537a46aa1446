"""Spans to a collector: OTLP over HTTP, in its JSON form (see `otlp_json`)."""

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httpx2
import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from observability.events import tell
from observability.otlp_json import encode
from observability.sampling import Collector
from observability.signals import SPANS_LOST

RETRYABLE: Final = frozenset({429, 502, 503, 504})
"""What OTLP lets a client repeat."""
FIRST_PAUSE: Final = 0.5
"""Seconds before the first repetition; doubled each time."""
SHORTEST: Final = 0.1
"""Seconds that a repetition gets at least."""
LONGEST_WAIT: Final = 60.0
"""Seconds for which a collector may ask to be left alone; whoever says an hour is asked every minute."""
LONGEST_ANSWER: Final = 64 * 1024
"""Bytes of an answer that are read."""


class Answer(NamedTuple):
    """What came back of one try: `status` 0 for nothing, with the cause. `retry_after`: seconds."""

    status: int
    cause: str
    body: bytes = b""
    retry_after: float = 0.0


class Loss(NamedTuple):
    """How many spans of a batch were not taken, and why."""

    spans: int
    cause: str = ""


class OtlpJsonExporter(SpanExporter):
    """Sends batches of spans; called by one thread, that of the batch processor.

    That thread runs an event loop for each try, which alone can end one whose answer comes in drops: a timeout of an
    HTTP client is one for each read.
    """

    def __init__(self, collector: Collector) -> None:
        headers = {**collector.headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        self._client = httpx2.AsyncClient(headers=headers, timeout=None)
        self._loop = asyncio.Runner()
        self._collector = collector
        self._failing = False
        self._told = False
        self._not_before = 0.0
        self._leave_by = math.inf
        self.taken = 0
        """Spans that were given to be sent, delivered or not."""
        self.dropped = 0
        """Spans that no collector took."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; what cannot be delivered in time is dropped and counted, never kept."""
        self.taken += len(spans)
        loss = self._deliver(encode(spans), len(spans))
        self.dropped += loss.spans
        if loss.spans and not self._told:  # once, not for every batch of an hour's outage
            tell(SPANS_LOST, {"url": bare_url(self._collector.url), "cause": loss.cause})
        self._told = loss.spans > 0
        self._failing = loss.spans == len(spans)
        return SpanExportResult.FAILURE if loss.spans else SpanExportResult.SUCCESS

    def hurry(self) -> None:
        """Give all batches that are still to come, together, no longer than one of them had."""
        self._leave_by = time.monotonic() + self._collector.timeout

    def shutdown(self) -> None:
        """Close the connection."""
        closing = threading.Thread(target=self._close)  # whoever calls may be within an event loop of its own
        closing.start()
        closing.join()

    def _close(self) -> None:
        if not self._client.is_closed:
            self._loop.run(self._client.aclose())
            self._loop.close()

    def _deliver(self, content: bytes, spans: int) -> Loss:
        """Post until it is taken, refused or too late; return what was not taken.

        While an outage lasts, once: the queue behind this batch would overflow, and the process could not leave. Nor
        before the time that the collector has asked for.
        """
        give_up = time.monotonic() + self._collector.timeout
        pause, cause = FIRST_PAUSE, "is not asked before the time that it has named"
        while not self._client.is_closed:
            give_up = min(give_up, self._leave_by)
            wait = self._not_before - time.monotonic()
            if wait > 0:
                if self._failing or time.monotonic() + wait >= give_up:
                    return Loss(spans, cause)
                time.sleep(wait)
            answer = self._loop.run(self._ask(content, max(SHORTEST, give_up - time.monotonic())))
            if 200 <= answer.status < 300:
                return rejected(answer.body, spans)
            cause, now = answer.cause, time.monotonic()
            self._not_before = now + min(answer.retry_after, LONGEST_WAIT)
            again = not answer.status or answer.status in RETRYABLE
            if not again or self._failing or now + pause >= give_up:
                return Loss(spans, cause)
            time.sleep(pause)
            pause *= 2
        return Loss(spans, "is not asked any more")

    async def _ask(self, content: bytes, seconds: float) -> Answer:
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream("POST", self._collector.url, content=content) as answer,
            ):
                body = b""
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > LONGEST_ANSWER:
                        break
        except httpx2.HTTPError as error:
            return Answer(0, f"cannot be reached: {error}")
        except TimeoutError:
            return Answer(0, "has no whole answer in time")
        retry_after = seconds_of(answer.headers.get("retry-after", "")) if answer.status_code in RETRYABLE else 0.0
        return Answer(answer.status_code, f"answers {answer.status_code}", body, retry_after)


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_spans: int = 0
    error_message: str | None = None


class _Response(msgspec.Struct, rename="camel"):
    """An ExportTraceServiceResponse."""

    partial_success: _PartialSuccess | None = None


def rejected(body: bytes, spans: int) -> Loss:
    """Return what a collector says that it has not taken of a batch that it has accepted; mostly nothing."""
    try:  # not strict: protobuf's JSON form writes 64-bit numbers as text
        partial = msgspec.json.decode(body or b"{}", type=_Response, strict=False).partial_success
    except (msgspec.MsgspecError, ValueError):
        return Loss(0)
    if partial is None or partial.rejected_spans <= 0:
        return Loss(0)
    lost = min(partial.rejected_spans, spans)
    return Loss(lost, f"rejects {lost} of {spans}: {(partial.error_message or 'without a word')[:200]}")


def seconds_of(retry_after: str) -> float:
    """Return a Retry-After in seconds, in either of its forms; 0 for one that is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    return max(0.0, (when - datetime.now(UTC)).total_seconds()) if when.tzinfo else 0.0


class SpanQueue(BatchSpanProcessor):
    """Spans that wait to be sent, in batches, by a thread of their own; what there is no room for is counted.

    The SDK's processor drops them as well, its oldest, and tells of it only in metrics of its own. Here what waits is
    what was handed over and has not been taken: the SDK's queue never overflows. Only one thread may end spans.
    Queue and batches are sized by the standard OTEL_BSP_* variables, which the SDK reads itself.
    """

    def __init__(self, exporter: OtlpJsonExporter) -> None:
        self._room: int = self._default_max_queue_size()  # type: ignore[no-untyped-call]
        super().__init__(exporter, max_queue_size=self._room)
        self._exporter = exporter
        self._handed_over = 0
        self._overflowed = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Let a span wait, unless there is no room."""
        if self._handed_over - self._exporter.taken >= self._room:
            self._overflowed += 1
            return
        self._handed_over += 1
        super().on_end(span)

    def shutdown(self) -> None:
        """Send what waits, for as long as a batch or two may take; what is then left is dropped."""
        self._exporter.hurry()
        super().shutdown()  # type: ignore[no-untyped-call]

    def dropped(self) -> dict[str, int]:
        """Return how many spans were lost, by reason."""
        return {"undelivered": self._exporter.dropped, "overflow": self._overflowed}


def bare_url(url: str) -> str:
    """Return an address without user, password and query: none of them belongs into a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

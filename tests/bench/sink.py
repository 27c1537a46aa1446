"""A collector that only counts: spans and log records by OTLP over HTTP, profiles by whatever they are sent with.

`python -m tests.bench.sink` takes every POST; what is decoded is decoded when `GET /counts` asks for it.
"""

import gzip
import os
from collections import defaultdict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

COUNTS: Final = "/counts"
TRACES: Final = "/v1/traces"
JSON: Final = "application/json"
SERVER: Final = 2
"""OTLP's number of the kind of span that a request has one of."""


class Count(Struct):
    """What arrived at one path. `spans`: those of requests, without their steps."""

    requests: int = 0
    size: int = 0
    spans: int = 0


Counts = dict[str, Count]


class _Span(Struct, rename="camel"):
    trace_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    span_id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    name: str
    kind: int
    start_time_unix_nano: str
    end_time_unix_nano: str


class _ScopeSpans(Struct):
    spans: list[_Span]


class _ResourceSpans(Struct, rename="camel"):
    scope_spans: list[_ScopeSpans]


class _Export(Struct, rename="camel"):
    resource_spans: list[_ResourceSpans]


def spans_in(body: bytes, media_type: str) -> int:
    """Return how many requests' spans one export holds, in OTLP's JSON or protobuf form; an error where it is none."""
    export: Any
    if media_type == JSON:
        export = msgspec.json.decode(body, type=_Export)
    else:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415 - where it is installed

        export = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    scopes = [scope for resource in export.resource_spans for scope in resource.scope_spans]
    return sum(span.kind == SERVER for scope in scopes for span in scope.spans)


class _Body(NamedTuple):
    content: bytes
    media_type: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies: Final[dict[str, list[_Body]]] = defaultdict(list)
    counted: Final[Counts] = defaultdict(Count)

    def do_POST(self) -> None:
        """Take whatever it is."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        self.bodies[self.path].append(_Body(content, self.headers.get("Content-Type", "")))
        self._answer(b"")

    def do_GET(self) -> None:
        """Say what has come."""
        self._answer(msgspec.json.encode(self._counts()))

    def _counts(self) -> Counts:
        for path in list(self.bodies):
            bodies, self.bodies[path] = self.bodies[path], []
            count = self.counted[path]
            count.requests += len(bodies)
            count.size += sum(len(body.content) for body in bodies)
            if path.endswith(TRACES):
                for body in bodies:
                    with suppress(msgspec.DecodeError):  # what is no export is not counted, and missed at the end
                        count.spans += spans_in(*body)
        return self.counted

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(os.environ["CALSVC_PORT"])), _Handler) as server:
        server.serve_forever()

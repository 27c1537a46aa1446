"""A collector that takes spans over HTTP, keeps them, and answers what a test wants."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class LocalCollector(ThreadingHTTPServer):
    """Takes spans on loopback and answers with `answers`, then with 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.answers: list[int] = []
        self.posted: list[bytes] = []

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def exports(self) -> list[ExportTraceServiceRequest]:
        """What was posted, read."""
        return [ExportTraceServiceRequest.FromString(each) for each in self.posted]


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LocalCollector

    def do_POST(self) -> None:
        """Take a batch."""
        self.server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

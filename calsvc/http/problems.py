"""Which HTTP answer each error becomes, as RFC 9457 writes it."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
from opentelemetry import trace
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from calsvc.http import errors
from calsvc.http.middleware import SECURITY_HEADERS
from calsvc.http.schema import Problem
from observability.logs import clipped

SHOWN: Final = 256
"""Characters of what a client has sent that its problem repeats."""


class ProblemKind(NamedTuple):
    """How one kind of error is answered."""

    status: int
    slug: str
    title: str
    headers: Mapping[str, str] = MappingProxyType({})


SOON: Final = MappingProxyType({"Retry-After": "1"})
"""Where trying again makes sense, in so many seconds."""


PROBLEMS: Final[dict[type[Exception], ProblemKind]] = {
    errors.UpgradeIgnored: ProblemKind(400, "upgrade-ignored", "The request asks for another protocol"),
    errors.NotJson: ProblemKind(400, "not-json", "The body is not JSON"),
    errors.Unauthorized: ProblemKind(401, "unauthorized", "A token is needed", {"WWW-Authenticate": "Bearer"}),
    errors.UnknownId: ProblemKind(404, "unknown-id", "No such prediction waits for its truth"),
    errors.TruthConflict: ProblemKind(409, "truth-conflict", "Another truth already stands"),
    errors.BodyTooLarge: ProblemKind(413, "body-too-large", "The body is too large"),
    errors.WrongMediaType: ProblemKind(415, "wrong-media-type", "The body is not declared as JSON"),
    errors.InvalidInput: ProblemKind(422, "invalid-input", "A field is missing, wrong or implausible"),
    errors.ScoringError: ProblemKind(500, "scoring-failed", "The model gave no usable answer"),
    errors.NotReady: ProblemKind(503, "not-ready", "The service is not ready", SOON),
    errors.StoreUnavailable: ProblemKind(503, "store-unavailable", "The store is out of reach", SOON),
    errors.Overloaded: ProblemKind(503, "overloaded", "The service is overloaded", SOON),
    Exception: ProblemKind(500, "internal-error", "The service made a mistake"),
}


def problem_of(error: Exception) -> Response:
    """Return the answer to a request that failed: what the table says, and nothing of what is inside the service."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # the client has gone; this reaches the metrics and nobody else
    kind = next(PROBLEMS[cls] for cls in type(error).__mro__ if cls in PROBLEMS)
    detail = str(error) if isinstance(error, errors.CalsvcError) else "the cause is in the service's log"
    return problem(kind, detail, getattr(error, "field", None), _trace_id())


async def starlette_problem(_: Request, error: Exception) -> Response:
    """Answer what the application raises."""
    return problem_of(error)


async def http_problem(request: Request, error: Exception) -> Response:
    """Answer what Starlette refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette dispatches by this very class
    title = HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    path = clipped(request.scope["path"], SHOWN)  # not by request.url, for which Host would have to be one
    detail = {
        404: f"there is nothing at {path}; see /openapi.json",
        405: f"{path} does not take {request.method}",
    }.get(error.status_code, error.detail)
    response = problem(ProblemKind(error.status_code, slug, title), detail, trace_id=_trace_id())
    response.headers.update(error.headers or {})
    return response


def problem(kind: ProblemKind, detail: str, field: str | None = None, trace_id: str | None = None) -> Response:
    """Return the answer of one kind. `field`: the JSON path of what is to blame, where one is."""
    content = Problem(
        type=f"urn:calsvc:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        field=field if field is not None else msgspec.UNSET,
        trace_id=trace_id or msgspec.UNSET,
    )
    headers = {"Content-Type": "application/problem+json", **SECURITY_HEADERS, **kind.headers}
    return Response(msgspec.json.encode(content), kind.status, headers)


def _trace_id() -> str | None:
    """Return the trace of this request: that of its own span where it is recorded, or else the caller's."""
    span = trace.get_current_span()
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if span.is_recording() or context.is_remote else None

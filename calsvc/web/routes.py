"""The page's files and its event stream. Quiet: who watches is in no request metric and in no trace."""

import hashlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final, NamedTuple, TypedDict

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from calsvc.http.errors import NotReady, Overloaded
from calsvc.service import Service
from calsvc.web.sampler import Sampler

STATIC: Final = Path(__file__).parent / "static"
MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
FILES: Final = {
    "/": "index.html",
    **{
        f"/static/{name}": name
        for name in (
            *("page.css", "page.js", "charts.js", "format.js", "icon.svg"),
            *("uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE"),
        )
    },
}
"""By path: what is served, and nothing else is."""
EVENTS: Final = "/events"
MAX_PAGES: Final = 200
"""Streams at once: each holds a connection for as long as the page is open."""
RETRY: Final = b"retry: 2000\n\n"
"""Milliseconds after which a browser comes back when a stream has ended."""
CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
HEADERS: Final = {"Content-Security-Policy": CONTENT_POLICY}


class File(NamedTuple):
    """One file, ready to be sent."""

    content: bytes
    headers: dict[str, str]


class Page:
    """What the page's routes work on. `files`: by path."""

    def __init__(self, service: Service, wall: Callable[[], float]) -> None:
        self.sampler = Sampler(service, wall)
        self.files = {path: _load(STATIC / name) for path, name in FILES.items()}
        self.open = 0


class PageState(TypedDict):
    """What the lifespan hands to the page's requests."""

    page: Page


async def file(request: Request[PageState]) -> Response:
    """Send one of the page's files, or say that the browser has it already."""
    found = request.state["page"].files[request.scope["path"]]
    if found.headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=found.headers)
    return Response(found.content, headers=found.headers)


async def events(request: Request[PageState]) -> Response:
    """Tell the last ten minutes, then each second what is new."""
    page = request.state["page"]
    if page.sampler.feed.closed:
        raise NotReady("the service is about to go")
    if page.open >= MAX_PAGES:
        raise Overloaded(f"{MAX_PAGES} pages are open already")
    headers = {**HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    return Response(headers=headers) if request.method == "HEAD" else StreamingResponse(stream(page), headers=headers)


async def stream(page: Page) -> AsyncGenerator[bytes]:
    """Yield server-sent events until the process is to end; the place among the open pages is free afterwards."""
    feed = page.sampler.feed
    page.open += 1
    try:
        yield RETRY + feed.history()
        while not feed.closed:
            await feed.turn.wait()
            yield feed.update
    finally:
        page.open -= 1


def _load(path: Path) -> File:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    kind = {"Content-Type": MEDIA_TYPES[path.suffix], "Cache-Control": "no-cache", "ETag": tag}
    return File(content, HEADERS | kind)


ROUTES: Final = {**dict.fromkeys(FILES, file), EVENTS: events}
QUIET: Final = frozenset({*FILES, EVENTS})

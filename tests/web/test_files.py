"""The page's files: served with the strictest policy, complete, local, and what was vendored is unaltered."""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from calsvc.web import routes
from calsvc.web.routes import FILES, STATIC
from calsvc.web.snapshot import CHARTED, Snapshot
from tests.service_process import ROOT
from tests.test_app import Service, running

OWN = sorted(path for path in STATIC.iterdir() if not path.name.startswith("uPlot"))


class Elements(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.found.append((tag, dict(attrs)))


PAGE = (STATIC / "index.html").read_text(encoding="utf-8")
ELEMENTS = Elements(PAGE).found


@pytest.fixture
def service(bundle: Path) -> Iterator[Service]:
    """A service with the default settings."""
    yield from running(bundle)


@pytest.mark.parametrize("path", [*FILES, "/events"])
def test_every_answer_carries_the_policy(service: Service, path: str):
    """Nothing but this origin's own files and connections; nobody may frame it."""
    headers = service.client.head(path).headers
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    )
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_sent_once(service: Service, path: str):
    """A browser asks whether a file has changed, and gets it again only then."""
    first = service.client.get(path)
    assert first.content == (STATIC / FILES[path]).read_bytes()
    assert first.headers["Cache-Control"] == "no-cache"
    tag = first.headers["ETag"]
    again = service.client.get(path, headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert service.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_nothing_else_is_served(service: Service):
    """No way from the page's folder to any other file."""
    for path in (
        "/static/",
        "/static/index.html",
        "/static/../routes.py",
        "/static/%2e%2e/routes.py",
        "/static/page.js/",
    ):
        assert service.client.get(f"http://testserver{path}").status_code == 404, path
    assert {path.name for path in STATIC.iterdir()} == set(FILES.values())


def test_nothing_is_inline():
    """No script, style or handler stands in the page itself: the policy would refuse it."""
    for tag, attributes in ELEMENTS:
        assert tag != "style"
        assert tag != "script" or "src" in attributes
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_every_file_that_is_named_is_served_from_here():
    """Links, sources and imports lead to routes of this service."""
    named = {attributes[name] for _, attributes in ELEMENTS for name in ("href", "src") if name in attributes}
    assert {path for path in named if path} <= set(FILES) | {"/metrics", "/info", "/openapi.json"}
    for script in STATIC.glob("*.js"):
        for target in re.findall(r'^import .* from "\./(.+)";', script.read_text(encoding="utf-8"), re.MULTILINE):
            assert f"/static/{target}" in FILES
    for style in STATIC.glob("*.css"):
        assert "url(" not in style.read_text(encoding="utf-8")
        assert "@import" not in style.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_no_other_host_is_named(path: Path):
    """Not in the page, not in its scripts; the namespace of SVG and the usual local address are names, not hosts."""
    without_comments = re.sub(r"(^|\s)// .*", "", path.read_text(encoding="utf-8"))
    hosts = set(re.findall(r"(?:https?:)?//[\w.-]+\w", without_comments))
    assert hosts <= {"http://www.w3.org", "http://127.0.0.1", "http://localhost"}


def test_text_is_never_markup():
    """What the service says goes into the page as text."""
    for script in ("page.js", "charts.js", "format.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write", (STATIC / script).read_text())


def test_every_place_of_the_page_names_a_number_that_there_is():
    """Fields of the snapshot, columns of the charts, kinds of format."""
    shown = {attributes["data-show"] for _, attributes in ELEMENTS if "data-show" in attributes}
    assert shown <= set(Snapshot.__struct_fields__)
    formats = set(re.findall(r"^  (\w+)[:,]", (STATIC / "format.js").read_text(), re.MULTILINE))
    assert {attributes["data-as"] for _, attributes in ELEMENTS if "data-as" in attributes} <= formats
    charts = (STATIC / "charts.js").read_text()
    assert set(re.findall(r'line\(\s*"(\w+)"', charts)) <= set(CHARTED)
    figures = {attributes["data-chart"] for _, attributes in ELEMENTS if "data-chart" in attributes}
    assert figures == set(re.findall(r"^  (\w+): \{", charts, re.MULTILINE))


def test_what_came_from_elsewhere_is_as_it_was_published():
    """Every vendored file is listed with version, licence and checksum, and has it."""
    folder = STATIC.parent
    listed = [line for line in (folder / "VENDORED").read_text().splitlines() if not line.startswith("#")]
    for line in listed:
        about, checksum, file, _ = line.split(" | ")
        assert re.fullmatch(r"uplot \d+\.\d+\.\d+ MIT", about)
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == checksum, file
    assert {line.split(" | ")[2] for line in listed} == {f"static/{path.name}" for path in STATIC.glob("uPlot*")}


def test_the_wheel_holds_every_file_and_the_licence(tmp_path: Path):
    """Who installs it has the page, and the licence of what came from elsewhere where installers look for it."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"calsvc/web/static/{name}" for name in FILES.values()} <= set(names)
    assert [name for name in names if name.endswith("licenses/calsvc/web/static/uPlot.LICENSE")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme: str):
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for lines, on both backgrounds."""
    light, dark = re.findall(r":root \{(.*?)\}", (STATIC / "page.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", light if scheme == "light" else dark))
    for ground in ("paper", "card"):
        for text in ("ink", "muted", "accent", "alarm"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for line in ("accent", "strong", "soft", "quiet", "alarm", "good"):
        assert contrast(colours[line], colours["card"]) >= 3, line


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio defines it."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of `#rrggbb`."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_page_is_quiet():
    """All its routes are left out of request metrics and traces."""
    assert set(routes.ROUTES) == routes.QUIET

"""docs/bench.md is made of docs/bench.json, by the code that is here."""

from pathlib import Path

import msgspec

from tests.bench.page import Document, page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_figures_is_that_of_its_json():
    """Nobody has polished a figure; whoever changes the tables writes them anew: `just bench --docs`."""
    document = msgspec.json.decode((DOCS / "bench.json").read_bytes(), type=Document)
    assert page(document) == (DOCS / "bench.md").read_text(encoding="utf-8")


def test_the_figures_tell_neither_host_nor_folder():
    """Processor and libraries are enough to compare."""
    text = (DOCS / "bench.json").read_text(encoding="utf-8")
    assert str(DOCS.parents[1]) not in text
    assert "home/" not in text

"""docs/bench.md is made of docs/bench.json, and docs/bench-PART.md of its own, by the code that is here."""

from pathlib import Path

import msgspec
import pytest

from tests.bench.page import Document, page

DOCS = Path(__file__).parents[2] / "docs"
STEMS = sorted(path.stem for path in DOCS.glob("bench*.json"))


@pytest.mark.parametrize("stem", STEMS)
def test_the_page_of_figures_is_that_of_its_json(stem: str):
    """Nobody has polished a figure; whoever changes the tables writes them anew: `just bench --docs`."""
    document = msgspec.json.decode((DOCS / f"{stem}.json").read_bytes(), type=Document)
    assert page(document, stem.split("-")[1:]) == (DOCS / f"{stem}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("stem", STEMS)
def test_the_figures_tell_neither_host_nor_folder(stem: str):
    """Processor and libraries are enough to compare."""
    text = (DOCS / f"{stem}.json").read_text(encoding="utf-8")
    assert str(DOCS.parents[1]) not in text
    assert "home/" not in text

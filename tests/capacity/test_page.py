"""docs/capacity.md and its drawings are made of docs/capacity.json, and that of docs/bench.json; the command."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from capacity.__main__ import main
from capacity.measured import Unreadable, read
from capacity.page import Document, encoded, images, made, renewed
from capacity.page import read as read_document
from capacity.scenarios import loads, replica_of, settings

DOCS = Path(__file__).parents[2] / "docs"
ADVICE = "written anew by: just capacity --docs"


@pytest.fixture(scope="module")
def document() -> Document:
    """What the page stands on."""
    return read_document(DOCS / "capacity.json")


def test_the_page_is_that_of_its_json(document: Document):
    """Nobody has polished a figure, nor a drawing."""
    text = (DOCS / "capacity.md").read_text(encoding="utf-8")
    assert renewed(text, document) == text, ADVICE
    for name, drawing in images(document).items():
        assert (DOCS / "images" / name).read_text(encoding="utf-8") == drawing, ADVICE
        assert f"](images/{name})" in text


@pytest.mark.slow
def test_the_json_is_what_the_simulation_makes_of_the_measurement(document: Document):
    """The page follows the code and docs/bench.json: whoever changes either writes it anew."""
    measured = read(DOCS / "bench.json", kept=document.measured.rates)
    assert measured == document.measured, ADVICE
    assert encoded(made(measured)) == (DOCS / "capacity.json").read_bytes(), ADVICE


def test_every_load_and_setting_is_there(document: Document):
    """The recommended setting under every load, and every setting under the heavy ones, in the page too."""
    text = (DOCS / "capacity.md").read_text(encoding="utf-8")
    assert {each.load for each in document.runs} == {load.name for load in loads()}
    names = [setting.name for setting in settings(replica_of(document.measured))]
    assert all(f"| {name} |" in text for name in names)
    assert len({each.setting for each in document.runs}) == len(names)


def test_drawings_are_well_formed_and_need_nothing_else(document: Document):
    """XML that refers to nothing."""
    for text in images(document).values():
        root = ET.fromstring(text)  # noqa: S314  of our own making
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 5
        assert "href" not in text
        assert "NaN" not in text


def test_a_load_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A table of one line, and a drawing."""
    monkeypatch.chdir(tmp_path)
    assert (
        main(["9000", "--bench", str(DOCS / "bench.json"), "--lasts", "60", "--cpu-us", "100", "--target", "100"]) == 0
    )
    said = capsys.readouterr().out
    assert said.startswith("|  | replicas at most |")
    assert "| 9,000/s |" in said
    assert ET.parse(tmp_path / "data" / "capacity" / "own.svg")  # noqa: S314


def test_figures_that_cannot_be_read_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The file, and what writes it."""
    assert main(["500", "--bench", str(tmp_path / "none.json")]) == 1
    assert "none.json: No such file or directory; a whole `just bench` writes it" in capsys.readouterr().err
    half = tmp_path / "half.json"
    half.write_text(json.dumps({"machine": {}, "parts": {}}))
    with pytest.raises(Unreadable, match=r"half\.json: not the figures"):
        read(half)


@pytest.mark.parametrize(
    "wrong", [["0"], ["5", "--limit", "0"], ["5", "--min", "0"], ["5", "--docs"], ["5", "--off", "-1"]]
)
def test_usage_is_exit_code_2(wrong: list[str], capsys: pytest.CaptureFixture[str]):
    """What is no load or setting is refused with what would be one."""
    with pytest.raises(SystemExit) as refused:
        main(wrong)
    assert refused.value.code == 2
    assert "just capacity" in capsys.readouterr().err


def test_later_rates_count_instead_of_those_before(tmp_path: Path):
    """A part that was measured by itself, in the form of `just bench rates`."""
    spread = {"median": 200.04, "low": 190.0, "high": 300.0}
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps({"rates": [{"load": "10 records/s", "calls": {"median": 20.0}, "cpu_us": spread}]}))
    measured = read(DOCS / "bench.json", rates)
    assert [(each.calls, each.median, each.low) for each in measured.rates] == [(20.0, 200.0, 190.0)]
    assert measured.points == ((20.0, 200e-6), (measured.calls, measured.cpu_us / 1e6))

"""The progress of a training, on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from calsvc.training.display import LiveDisplay, PlainDisplay


def drawn(display: LiveDisplay) -> str:
    """What the terminal would show now."""
    console = Console(file=io.StringIO(), width=100)
    console.print(display)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_the_table_shows_each_stage_with_its_latest_detail() -> None:
    """It can be drawn at any moment, before the first stage too."""
    display = LiveDisplay(Console(file=io.StringIO()))
    drawn(display)
    display.stage("split")
    display.detail("early")
    display.detail("late")
    display.stage("train")
    first, second = drawn(display).splitlines()
    assert "split" in first
    assert "0.0 s" in first
    assert "late" in first
    assert "train" in second


def test_a_long_detail_is_cut_not_wrapped() -> None:
    """And the elapsed time stays visible."""
    display = LiveDisplay(Console(file=io.StringIO()))
    display.stage("export (reference)")
    display.detail("x" * 500)
    (line,) = drawn(display).splitlines()
    assert "export (reference)" in line
    assert " s  xxx" in line


def test_plain_lines_keep_the_last_detail_of_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """Those between are left out where they come too fast."""
    display = PlainDisplay()
    display.stage("train")
    display.detail("round 1")
    display.detail("round 2")
    display.stage("export")
    display.warn("careful")
    display.end()
    told = capsys.readouterr()
    assert told.out.splitlines() == ["train ...", "train: round 2", "export ..."]
    assert told.err == "warning: careful\n"

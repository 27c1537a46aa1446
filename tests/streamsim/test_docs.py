"""docs/simulator.md says what the command does."""

import argparse
from pathlib import Path

from streamsim.answers import Cause
from streamsim.cli import parser

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()


def options(command: str) -> list[argparse.Action]:
    """The options of a command, help left out."""
    choices = next(action.choices for action in parser()._actions if isinstance(action.choices, dict))  # noqa: SLF001
    return [action for action in choices[command]._actions if action.dest != "help"]  # noqa: SLF001


def test_every_option_is_in_the_table_with_its_default():
    """One row an option."""
    for action in [*options("stream"), *options("demo")]:
        default = "" if action.default in (None, False) else str(action.default).removesuffix(".0")
        rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{action.option_strings[0]}")]
        assert rows, action.option_strings[0]
        assert any(f"| {f'`{default}`' if default else ''}".rstrip() in row for row in rows), (default, rows)


def test_every_cause_is_explained():
    """One row a cause."""
    assert [cause for cause in Cause if f"| `{cause}` |" not in PAGE] == []

"""docs/stress-on-a-cluster.md says what the command does."""

from pathlib import Path

from streamsim.cluster.__main__ import parser

PAGE = (Path(__file__).parents[3] / "docs" / "stress-on-a-cluster.md").read_text(encoding="utf-8")


def test_every_option_is_in_the_table_with_its_default():
    """One row an option."""
    for action in parser()._actions:  # noqa: SLF001
        if action.dest == "help":
            continue
        default = "" if action.default in (None, False) else f"`{action.default}`".replace(".0`", "`")
        rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{action.option_strings[0]}")]
        assert [row.split("|")[2].strip() for row in rows] == [default], action.option_strings[0]

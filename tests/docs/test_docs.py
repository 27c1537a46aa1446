"""The docs say what the code does: settings, metrics, commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from calsvc import settings
from observability import catalogue, signals

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """A page of the docs."""
    return (ROOT / name).read_text(encoding="utf-8")


def recipes() -> set[str]:
    """The names of the justfile's public recipes."""
    return set(re.findall(r"^([a-z][a-z0-9-]*)(?: \*args)?:$", page("justfile"), re.MULTILINE)) - {"default"}


def test_docs_settings_is_the_table_of_the_code():
    """docs/settings.md holds what `python -m calsvc.settings` prints."""
    assert settings.markdown_table() in page("docs/settings.md")


def test_docs_telemetry_is_made_of_the_declarations():
    """docs/telemetry.md is what `python -m observability.catalogue --write` writes, every name in it."""
    assert catalogue.page() == page("docs/telemetry.md")
    for name in (
        *(metric.exposed for metric in (*signals.METRICS, *signals.STANDARD)),
        *(each.name for each in (*signals.SPANS, *signals.EVENTS, *signals.RESOURCE)),
    ):
        assert f"| `{name}` |" in page("docs/telemetry.md")


def test_docs_traces_names_every_variable_of_the_collector():
    """With the default that the configuration has."""
    config, text = page("observability/stack/collector.yaml"), page("docs/traces.md")
    variables = re.findall(r"\$\{env:(\w+):-(.*?)\}", config)
    assert len(variables) > 10
    for name, default in variables:
        (row,) = [line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line]
        assert f"`{default}`" in row, name


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_command_a_page_names_exists(name: str):
    """`just x` and `./justw x` in the docs name recipes of the justfile."""
    text = page(name if (ROOT / name).exists() else f"docs/{name}")
    named = set(re.findall(r"(?:\./justw|`just|^just|just:) ([a-z][a-z0-9-]+)", text, re.MULTILINE))
    assert named <= recipes() | {"help"}


def test_readme_shows_every_recipe():
    """Whoever reads the README has seen each command once."""
    text = page("README.md")
    assert {name for name in recipes() if f"just {name}" not in text and f"./justw {name}" not in text} == set()


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_link_leads_somewhere(name: str):
    """Relative links of a page point to files that exist."""
    path = ROOT / name if (ROOT / name).exists() else ROOT / "docs" / name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_settings_module_prints_the_table(tmp_path: Path):
    """The command that docs/settings.md names works from anywhere."""
    printed = subprocess.run(
        [sys.executable, "-m", "calsvc.settings"],
        capture_output=True,
        check=True,
        text=True,
        cwd=tmp_path,
    ).stdout
    assert printed.strip() == settings.markdown_table()

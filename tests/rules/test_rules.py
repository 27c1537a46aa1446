"""The rules of Prometheus: accepted by promtool, proven by its unit tests, and each alert explained in the runbook."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.needs import needed, needs

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULES = sorted((ROOT / "observability" / "rules").glob("*.yml"))
UNIT_TESTS = sorted(HERE.glob("*.yml"))
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
STACK = ROOT / "observability" / "stack"
CONFIG = yaml.safe_load((STACK / "prometheus.yaml").read_text(encoding="utf-8"))
SLOWEST_SCRAPE = 15
"""Seconds: what the rules are made for."""
SEVERITIES = {"page", "ticket"}


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDS = [rule for rule in rules() if "record" in rule]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run([needed("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=300)


@needs("promtool")
@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_prometheus_accepts_the_rules(file: Path):
    """Syntax, templates, and no rule twice."""
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs("promtool")
def test_prometheus_accepts_the_configuration():
    """The rules that it names, and the targets of one PC, are there; each job reads a file of its own name."""
    checked = promtool("check", "config", STACK / "prometheus.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rule files found" in checked.stdout
    jobs = {job["job_name"]: job["file_sd_configs"] for job in CONFIG["scrape_configs"]}
    assert jobs == {file.stem: [{"files": [f"targets/{file.name}"]}] for file in (STACK / "targets").iterdir()}
    assert {"calsvc", "streamsim"} <= set(jobs)


def test_rules_are_evaluated_and_targets_scraped_as_often_as_the_windows_need():
    """Four times at least in the shortest of them."""
    paces = (CONFIG["global"]["scrape_interval"], CONFIG["global"]["evaluation_interval"])
    assert max(int(pace.removesuffix("s")) for pace in paces) <= SLOWEST_SCRAPE


@needs("promtool")
@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.name)
def test_the_rules_yield_what_is_expected(file: Path):
    """By promtool's own unit tests: values, firing, silence."""
    tested = promtool("test", "rules", file)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def cases() -> list[dict[str, Any]]:
    """The cases of the unit tests."""
    return [case for file in UNIT_TESTS for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]


def test_every_alert_is_seen_firing_and_silent():
    """In promtool's tests; of a burn rate each pair of windows."""
    seen = {True: set[tuple[str, str]](), False: set[tuple[str, str]]()}
    for case in cases():
        for asked in case.get("alert_rule_test", []):
            windows = {fired["exp_labels"].get("long", "") for fired in asked["exp_alerts"]}
            seen[bool(windows)] |= {(asked["alertname"], window) for window in windows or {""}}
    assert seen[True] == {(alert["alert"], alert["labels"].get("long", "")) for alert in ALERTS}
    assert seen[False] == {(alert["alert"], "") for alert in ALERTS}


def asks_for(expression: str, name: str) -> bool:
    """Whether a query is about a recorded series, by its name or by a pattern of names."""
    patterns = re.findall(r'__name__=~"([^"]+)"', expression)
    return name in expression or any(re.fullmatch(pattern, name) for pattern in patterns)


def test_every_recording_rule_is_tested_by_value():
    """And shown to be absent where there is nothing to say."""
    queries = [query for case in cases() for query in case.get("promql_expr_test", [])]
    recorded = {rule["record"] for rule in RECORDS}
    for samples in (True, False):
        asked = [query["expr"] for query in queries if bool(query["exp_samples"]) is samples]
        assert {name for name in recorded if any(asks_for(each, name) for each in asked)} == recorded


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"] + alert["labels"].get("long", ""))
def test_an_alert_says_what_it_is(alert: dict[str, Any]):
    """Severity, summary, the number, and where to read on: a link that follows from its name."""
    name, told = alert["alert"], alert["annotations"]
    assert alert["labels"]["severity"] in SEVERITIES
    assert set(told) == {"summary", "description", "runbook_url"}
    assert "$value" in told["description"]
    assert told["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_a_heading_for_each_alert_and_no_other():
    """Whoever follows the link finds something, and nothing is explained that does not exist."""
    assert Counter(re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)) == Counter({alert["alert"] for alert in ALERTS})


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in ALERTS}))
def test_an_entry_of_the_runbook_is_complete(name: str):
    """What it means, what to look at, what to do."""
    entry = RUNBOOK.partition(f"## {name}\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\*\*(.+)\.\*\*", entry, re.MULTILINE) == ["What it means", "What to look at", "What to do"]


def test_recorded_names_follow_one_pattern():
    """calsvc:<what>:<window>, no two rules of the same name and labels."""
    series = [(rule["record"], *sorted(rule.get("labels", {}).items())) for rule in RECORDS]
    assert len(set(series)) == len(series)
    assert [name for name, *_ in series if not re.fullmatch(r"calsvc:[a-z_]+:\d+[mhd]", name)] == []


def test_no_window_is_shorter_than_four_scrapes():
    """Of 15 s each: one missed scrape must not make a hole."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    windows = [window for rule in rules() for window in re.findall(r"\[(\d+)([smhd])\]", rule["expr"])]
    assert min(int(number) * seconds[unit] for number, unit in windows) >= 4 * SLOWEST_SCRAPE

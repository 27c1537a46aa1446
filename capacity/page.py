"""docs/capacity.md: the part of it that is made of docs/capacity.json, between two marks in a text that is written."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from capacity.figures import drawing
from capacity.measured import Measured
from capacity.scenarios import Figure, Run, loads, replica_of, run, settings

BEGIN: Final = "<!-- made by `just capacity --docs`: from here -->"
END: Final = "<!-- to here -->"
DRAWN: Final = (2, 3, 4)
"""Loads, by their place, of which the recommended setting is drawn."""
COMPARED: Final = (3, 4)
"""Loads under which every setting is tried: the others need one replica, whatever the setting."""


HEADER: Final = (
    *("", "replicas at most", "one more after, s", "predictions refused, %"),
    *("worst p99, ms", "back after, s", "replica minutes"),
)


class Document(Struct):
    """Everything the page tells: what was measured, and what was simulated with it."""

    measured: Measured
    runs: list[Run]


def made(measured: Measured) -> Document:
    """Simulate all that the page shows."""
    tried = settings(replica_of(measured))
    runs = []
    for place, load in enumerate(loads()):
        for number, setting in enumerate(tried if place in COMPARED else tried[:1]):
            runs.append(run(load, setting, drawn=place in DRAWN and number == 0))
    return Document(measured, runs)


def encoded(document: Document) -> bytes:
    """Return the document as JSON for people; the moments of a run in one line each."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def renewed(text: str, document: Document) -> str:
    """Return a page with another made part.

    Raises:
        ValueError: the marks are not there.
    """
    before, begun, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"the page lacks its marks, {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{section(document)}\n\n{END}{after}"


def images(document: Document) -> dict[str, str]:
    """Return the drawings by the names of their files."""
    drawn = [each for each in document.runs if each.moments]
    return {f"capacity-{number}.svg": _drawing(each) for number, each in enumerate(drawn, 1)}


def _drawing(each: Run) -> str:
    return drawing(f"{each.load}, setting: {each.setting} (simulated)", each.moments)


def section(document: Document) -> str:
    """Return the made part."""
    names = list(images(document))
    drawn = [each for each in document.runs if each.moments]
    pictures = [f"![{each.load}](images/{name})" for name, each in zip(names, drawn, strict=True)]
    parts = [
        "### Measured: what a call costs",
        costs(document.measured),
        "### Simulated: the recommended setting under five loads",
        _table([(each.load, each.figure) for each in document.runs if each.setting == document.runs[0].setting]),
        *pictures,
    ]
    for place in COMPARED:
        load = loads()[place].name
        lines = [(each.setting, each.figure) for each in document.runs if each.load == load]
        parts += [f"### Simulated: other settings under {load}", _table(lines)]
    return "\n\n".join(parts)


def costs(measured: Measured, limit: float = 0.5) -> str:
    """Return what was measured as a table, and what it means for a replica at its limit."""
    replica = replica_of(measured, limit)
    lines = [
        [
            each.load,
            f"{each.calls:,.0f}",
            f"{each.median:g} ({each.low:g}..{each.high:g})",
            _share(each.calls, each.median, limit),
        ]
        for each in measured.rates
    ]
    last = [f"never idle (docs/bench.md, *{measured.rung}*)", f"{measured.calls:,.0f}", f"{measured.cpu_us:g}"]
    lines.append([*last, _share(measured.calls, measured.cpu_us, limit)])
    told = (
        f"At {limit:g} of a core a replica that never rests answers {replica.most:,.0f} calls a second: "
        f"{replica.most / 2:,.0f} records with their truth. It takes {replica.starts_in:.1f} s from the autoscaler's "
        f"decision to its first request: {measured.start_seconds:g} s of CPU (measured) at that limit, and "
        f"{replica.before_start + replica.probe:g} s (assumed) for its pod and for the news that it is ready. "
        f"{measured.processor}, {measured.taken_at}."
    )
    wrapped = textwrap.fill(told, 120, break_on_hyphens=False)
    return table(["load", "calls/s", "CPU us a call", f"of {limit:g} core"], lines) + "\n\n" + wrapped


def _share(calls: float, microseconds: float, limit: float) -> str:
    return f"{calls * microseconds / 1e6 / limit:.0%}"


def recommended(measured: Measured) -> str:
    """Simulate the recommended setting under every load, and return its table."""
    setting = settings(replica_of(measured))[0]
    return _table([(load.name, run(load, setting).figure) for load in loads()])


def _table(lines: Sequence[tuple[str, Figure]]) -> str:
    return table(HEADER, [[name, *cells(figure)] for name, figure in lines])


def cells(figure: Figure) -> list[str]:
    """Return a figure's numbers, each as lowest..highest over the phases, or as one where they are the same."""
    return [
        _between(figure.most, ".0f"),
        _between(figure.first_more, ".0f"),
        _between(figure.failed, ".2f"),
        _between(figure.p99, ".1f"),
        _between(figure.back, ".0f"),
        _between(figure.replica_minutes, ".0f"),
    ]


def _between(values: tuple[float, float] | None, form: str) -> str:
    if values is None:
        return "never"
    low, high = (f"{each:{form}}" for each in values)
    return low if low == high else f"{low}..{high}"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, all columns but the first aligned to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *lines])


def read(file: Path) -> Document:
    """Read what `encoded` wrote."""
    return msgspec.json.decode(file.read_bytes(), type=Document)

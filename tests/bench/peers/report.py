"""From windows to the table: every server with its figures, or with the reason why there are none. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from tests.bench.figures import Spread, ratios, shown, spread, table
from tests.bench.load import Window
from tests.bench.machine import Machine, described
from tests.bench.measure import figures
from tests.bench.processes import Cores

ECHO: Final = "echo"
CALSVC: Final = "calsvc"
HEADER: Final = ("server", "requests/s", "CPU us a request", "calsvc is so many times as fast", "remark")

INTRODUCTION: Final = """# calsvc beside known model servers

Written by `./justw bench-peers`, each server in a venv of its own with the versions pinned in
`tests/bench/peers/servers/`, on the same model, core and rows in one run. A server that does not say what calsvc says,
within 0.1 %, is not measured. Each is set up to be fast; `tests/bench/peers/declared.py` says how."""


class Line(Struct, kw_only=True):
    """One server. Where `missing` says why, it has no figures."""

    name: str
    remark: str
    requests_per_second: Spread | None = None
    cpu_us: Spread | None = None
    calsvc_times: Spread | None = None
    generator_bound: bool = False
    missing: str | None = None


class Peers(Struct, kw_only=True):
    """The result."""

    machine: Machine
    rounds: int
    seconds: float
    connections: int
    cores: Cores
    trees: int
    lines: list[Line]


def lines(
    windows: Mapping[str, Sequence[Window]], remarks: Mapping[str, str], missing: Mapping[str, str]
) -> list[Line]:
    """Return a line for every server of `remarks`; how many times as fast calsvc is, is taken within each round."""
    measured = {each.name: each for each in figures(windows)}
    own = _rates(windows[CALSVC])
    found = []
    for name, remark in remarks.items():
        if name not in measured:
            found.append(Line(name=name, remark=remark, missing=missing.get(name, "not measured")))
            continue
        each = measured[name]
        found.append(
            Line(
                name=name,
                remark=remark,
                requests_per_second=each.requests_per_second,
                cpu_us=each.cpu_us,
                calsvc_times=spread(ratios(own, _rates(windows[name]))),
                generator_bound=each.generator_bound,
            )
        )
    return found


def markdown(result: Peers) -> str:
    """Return the table and what to know about it."""
    notes = [
        f"Medians of {result.rounds} interleaved rounds of {result.seconds:g} s (lowest..highest), "
        f"{result.connections} connections, one record a request, the same rows for all, {result.trees} trees. "
        f"{result.cores} How many times as fast is taken within a round.",
        *(
            f"{each.name}: the generator was the bottleneck, the server could do more."
            for each in result.lines
            if each.generator_bound
        ),
    ]
    whole = table(HEADER, map(_cells, result.lines)).replace("---: |\n", "--- |\n", 1)  # remarks are text
    return "\n\n".join([whole, *notes])


def page(result: Peers) -> str:
    """Return the table with what it was measured on."""
    return "\n\n".join([INTRODUCTION, described(result.machine), markdown(result)]) + "\n"


def _cells(line: Line) -> list[str]:
    if line.requests_per_second is None or line.calsvc_times is None:
        return [line.name, "", "", "", f"not measured: {line.missing} ({line.remark})"]
    times = line.calsvc_times
    return [
        line.name,
        shown(line.requests_per_second, ",.0f"),
        shown(line.cpu_us, ",.0f") if line.cpu_us else "",
        "1" if line.name == CALSVC else shown(times, ".1f" if times.median >= 2 else ".2f"),
        line.remark,
    ]


def _rates(windows: Sequence[Window]) -> list[float]:
    return [each.requests / each.seconds for each in windows]

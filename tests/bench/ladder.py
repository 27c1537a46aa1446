"""What the service and each part of it cost, beside a bare echo: requests a second, and CPU time a request."""

import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct

from calsvc.settings import Settings
from tests.bench import part
from tests.bench.asking import collects, counts
from tests.bench.figures import shown, table
from tests.bench.load import CONNECTIONS, Plan, Void, Window
from tests.bench.measure import Figures, figures, in_turns, loaded_server, remarks
from tests.bench.processes import Cores, Program, serving, two_cores
from tests.bench.rungs import LADDER, RATIO, Rung, program
from tests.bench.sink import Counts
from tests.bench.workouts import rows, templates

SPANS_TOLERATED: Final = 0.05
"""How far the share of requests that arrived as spans may be from the one asked for, relative to it, beside chance."""


class Arrived(Struct):
    """What the collector had of one rung at the end, and the requests it was made of."""

    rung: str
    requests: int
    spans: int
    profiles: int | None = None
    """None where none were to come"""

    @property
    def share(self) -> float:
        """Spans for each request."""
        return self.spans / self.requests


class Ladder(Struct):
    """The result."""

    rounds: int
    seconds: float
    connections: int
    cores: Cores
    rungs: list[Figures]
    arrived: list[Arrived]


def measure(options: part.Options) -> Ladder:
    """Run every rung in every round.

    Raises:
        Void: a request was not answered with 200, or spans or profiles did not arrive.
    """
    rungs = [rung for rung in LADDER if not options.only or rung.slug in options.only]
    cores = two_cores()
    with TemporaryDirectory() as name, serving(_collector(), Path(name), cores.generator) as collector:
        windows = _windows(rungs, options, cores, collector.port, Path(name))
        arrived = _arrived(rungs, windows, counts(collector.port))
    demand_spans(arrived)
    return Ladder(options.rounds, options.seconds, CONNECTIONS, cores, figures(windows), arrived)


def _collector() -> Program:
    return Program(("tests.bench.sink",), {}, collects)


def _windows(
    rungs: Sequence[Rung], options: part.Options, cores: Cores, collector: int, folder: Path
) -> dict[str, list[Window]]:
    requests, model = templates(rows()), Settings.from_env(os.environ).bundle_path
    with ExitStack() as stack:
        servers = {
            rung.name: stack.enter_context(serving(program(rung, collector, model, folder), folder, cores.server))
            for rung in rungs
        }

        def run(name: str, turn: int) -> Window:
            server = servers[name]
            length = {"warmup": options.warmup, "seconds": options.seconds}
            plan = Plan(port=server.port, pid=server.pid, templates=requests, turn=turn, **length)
            return loaded_server(servers[name], plan, cores.generator)

        return in_turns(servers, options.rounds, run, part.say)


def _arrived(rungs: Sequence[Rung], windows: Mapping[str, Sequence[Window]], counted: Counts) -> list[Arrived]:
    return [
        Arrived(
            rung=rung.name,
            requests=sum(window.total for window in windows[rung.name]),
            spans=counted[rung.traces_path].spans if rung.traces_path in counted else 0,
            profiles=_profiles(rung, counted) if rung.profiled else None,
        )
        for rung in rungs
        if rung.traced
    ]


def _profiles(rung: Rung, counted: Counts) -> int:
    own = {path: count for path, count in counted.items() if path.startswith(f"/{rung.slug}/")}
    return sum(count.requests for path, count in own.items() if path != rung.traces_path)


def demand_spans(arrived: Sequence[Arrived]) -> None:
    """Raise `Void` where spans were lost: what was dropped cost nothing, and the figure flatters."""
    for each in arrived:
        chance = 6 * math.sqrt(RATIO * (1 - RATIO) / each.requests)
        if abs(each.share - RATIO) > RATIO * SPANS_TOLERATED + chance:
            raise Void(f"{each.rung}: {each.share:.2%} of the requests arrived as spans, expected {RATIO:.0%}")


def markdown(ladder: Ladder) -> str:
    """Return the table and what to know about it."""
    header = ["server", "requests/s", "of the echo's", "least CPU us", "times the echo's", "CPU us a request"]
    notes = [
        f"Medians of {ladder.rounds} interleaved rounds of {ladder.seconds:g} s (lowest..highest), "
        f"{ladder.connections} connections, one record a request, none twice. {ladder.cores} Shares of the echo's "
        "requests are taken within a round. CPU time is that of the whole process, exporting included; the least is "
        "that of the least disturbed round.",
        *(remarks(ladder.rungs) if ladder.cores.server is not None else []),
        *(f"{each.rung}: {_what_arrived(each)}" for each in ladder.arrived),
    ]
    return "\n\n".join([table(header, [_line(each, ladder.rungs[0]) for each in ladder.rungs]), *notes])


def _line(rung: Figures, first: Figures) -> list[str]:
    line = [rung.name, shown(rung.requests_per_second, ",.0f"), shown(rung.share, ".0%")]
    if rung.cpu_us is None or first.cpu_us is None:
        return [*line, "", "", ""]
    times = rung.cpu_us.low / first.cpu_us.low
    return [*line, f"{rung.cpu_us.low:,.1f}", f"{times:.2f}", shown(rung.cpu_us, ",.1f")]


def _what_arrived(each: Arrived) -> str:
    spans = f"{each.spans:,} spans of {each.requests:,} requests ({each.share:.1%}) had arrived"
    if each.profiles is None:
        return f"{spans}."
    if each.profiles == 0:
        return f"{spans}, but no profile: nothing was profiled, and the figure is that of the rung before."
    return f"{spans}, and {each.profiles:,} profile{'s' if each.profiles > 1 else ''}."


if __name__ == "__main__":
    sys.exit(part.main("ladder", measure, markdown, Void))

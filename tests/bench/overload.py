"""More load than can be answered: how much is answered still, and do probes and scrapes get through.

Every connection asks again as soon as it has an answer, a refusal too: nobody here heeds Retry-After.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct

from calsvc.settings import Settings
from tests.bench import part
from tests.bench.asking import get
from tests.bench.figures import Spread, ratios, shown, spread, table
from tests.bench.load import Plan, Void, Window
from tests.bench.measure import in_turns, loaded
from tests.bench.processes import Cores, Program, Server, serving, two_cores
from tests.bench.rungs import UNSAMPLED, Rung, program
from tests.bench.workouts import rows, templates

LIMITS: Final = (Settings().max_in_flight, 64)
"""CALSVC_MAX_IN_FLIGHT: the default, and one that more connections reach."""
CONNECTIONS: Final = (64, 256, 1024)
ASKED_MEANWHILE: Final = ("/readyz", "/metrics")


class Pressure(Struct):
    """What so many connections got, a second; `share` is of the goodput of the first with the same limit."""

    limit: int
    connections: int
    goodput: Spread
    share: Spread
    refused: Spread
    asked_meanwhile: int
    """probes and scrapes that were answered with 200 while the load went on; one that was not makes the run void"""


class Overload(Struct):
    """The result."""

    rounds: int
    seconds: float
    cores: Cores
    pressures: list[Pressure]


def measure(options: part.Options) -> Overload:
    """Press harder and harder.

    Raises:
        Void: something else than 200 and 503 was answered.
    """
    cores, model = two_cores(), Settings.from_env(os.environ).bundle_path
    cases = {f"{limit} in flight, {number} connections": (limit, number) for limit in LIMITS for number in CONNECTIONS}
    asked = dict.fromkeys(cases, 0)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        running = {
            limit: stack.enter_context(serving(_limited(limit, model), Path(folder), cores.server)) for limit in LIMITS
        }

        def press(name: str, turn: int) -> Window:
            limit, connections = cases[name]
            server = running[limit]
            plan = Plan(port=server.port, pid=server.pid, templates=templates(rows()), refusable=True, turn=turn)
            plan.connections, plan.warmup, plan.seconds = connections, options.warmup, options.seconds
            window, answered = _pressed(plan, server, cores)
            asked[name] += answered
            return window

        servers = {name: running[limit] for name, (limit, _) in cases.items()}
        windows = in_turns(servers, options.rounds, press, part.say)
    return Overload(options.rounds, options.seconds, cores, _pressures(cases, windows, asked))


def _limited(limit: int, model: Path) -> Program:
    return program(Rung("service", ("calsvc",), {**UNSAMPLED, "CALSVC_MAX_IN_FLIGHT": str(limit)}), 0, model)


def _pressed(plan: Plan, server: Server, cores: Cores) -> tuple[Window, int]:
    """Load the service, and ask for probes and metrics until the load is over."""
    answered = 0
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(loaded, plan, cores.generator)
        while not load.done():
            for path in ASKED_MEANWHILE:
                get(server.port, path)
                answered += 1
        return load.result(), answered


def _pressures(
    cases: Mapping[str, tuple[int, int]], windows: Mapping[str, Sequence[Window]], asked: Mapping[str, int]
) -> list[Pressure]:
    goodput = {case: [each.requests / each.seconds for each in windows[name]] for name, case in cases.items()}
    return [
        Pressure(
            limit=limit,
            connections=connections,
            goodput=spread(goodput[limit, connections]),
            share=spread(ratios(goodput[limit, connections], goodput[limit, CONNECTIONS[0]])),
            refused=spread([each.refused / each.seconds for each in windows[name]]),
            asked_meanwhile=asked[name],
        )
        for name, (limit, connections) in cases.items()
    ]


def markdown(result: Overload) -> str:
    """Return the table and what to know about it."""
    note = (
        f"Medians of {result.rounds} interleaved rounds of {result.seconds:g} s (lowest..highest); no connection ever "
        f"pauses. {result.cores}"
    )
    header = [
        "CALSVC_MAX_IN_FLIGHT",
        "connections",
        "answered/s",
        "of the first",
        "refused/s",
        "probes and scrapes answered meanwhile",
    ]
    return "\n\n".join([table(header, _lines(result.pressures)), note])


def _lines(pressures: Sequence[Pressure]) -> list[list[str]]:
    return [
        [
            f"{each.limit:,}",
            f"{each.connections:,}",
            shown(each.goodput, ",.0f"),
            shown(each.share, ".0%"),
            shown(each.refused, ",.0f"),
            f"{each.asked_meanwhile:,}",
        ]
        for each in pressures
    ]


if __name__ == "__main__":
    sys.exit(part.main("overload", measure, markdown, Void))

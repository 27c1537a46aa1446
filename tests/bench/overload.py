"""More load than can be answered: how much is answered still, and do probes and scrapes get through.

Every connection asks again as soon as it has an answer, a refusal too: nobody here heeds Retry-After.
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from calsvc.settings import Settings
from tests.bench import part
from tests.bench.asking import get
from tests.bench.figures import Spread, ratios, shown, spread, table
from tests.bench.load import Plan, Void, Window
from tests.bench.measure import in_turns, loaded
from tests.bench.processes import Cores, Server, serving, two_cores
from tests.bench.rungs import UNSAMPLED, Rung, program
from tests.bench.workouts import rows, templates

LIMIT: Final = 64
"""CALSVC_MAX_IN_FLIGHT."""
CONNECTIONS: Final = (LIMIT, 2 * LIMIT, 4 * LIMIT, 8 * LIMIT, 16 * LIMIT)
ASKED_MEANWHILE: Final = ("/readyz", "/metrics")


class Pressure(Struct):
    """What so many connections got, a second; `share` is of the goodput of the first."""

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
    cores = two_cores()
    rung = Rung("service", ("calsvc",), {**UNSAMPLED, "CALSVC_MAX_IN_FLIGHT": str(LIMIT)})
    run = program(rung, 0, Settings.from_env(os.environ).bundle_path)
    asked = dict.fromkeys(CONNECTIONS, 0)
    with TemporaryDirectory() as folder, serving(run, Path(folder), cores.server) as server:
        plan = Plan(port=server.port, pid=server.pid, templates=templates(rows()), refusable=True)
        plan.warmup, plan.seconds = options.warmup, options.seconds

        def press(name: str, _turn: int) -> Window:
            connections = int(name)
            window, answered = _pressed(replace(plan, connections=connections), server, cores)
            asked[connections] += answered
            return window

        servers = {str(connections): server for connections in CONNECTIONS}
        windows = in_turns(servers, options.rounds, press, part.say)
    return Overload(options.rounds, options.seconds, cores, _pressures(windows, asked))


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


def _pressures(windows: dict[str, list[Window]], asked: dict[int, int]) -> list[Pressure]:
    goodput = {name: [each.requests / each.seconds for each in run] for name, run in windows.items()}
    first = goodput[str(CONNECTIONS[0])]
    return [
        Pressure(
            connections=connections,
            goodput=spread(goodput[str(connections)]),
            share=spread(ratios(goodput[str(connections)], first)),
            refused=spread([each.refused / each.seconds for each in windows[str(connections)]]),
            asked_meanwhile=asked[connections],
        )
        for connections in CONNECTIONS
    ]


def markdown(result: Overload) -> str:
    """Return the table and what to know about it."""
    note = (
        f"Medians of {result.rounds} interleaved rounds of {result.seconds:g} s (lowest..highest), "
        f"CALSVC_MAX_IN_FLIGHT={LIMIT}, no connection ever pauses. {result.cores}"
    )
    header = ["connections", "answered/s", "of the first", "refused/s", "probes and scrapes answered meanwhile"]
    return "\n\n".join([table(header, _lines(result.pressures)), note])


def _lines(pressures: Sequence[Pressure]) -> list[list[str]]:
    return [
        [
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

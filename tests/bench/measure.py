"""Several servers measured in turns, round by round, so that whatever drifts on the machine meets all of them."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from tests.bench.figures import Spread, ratios, rotated, spread
from tests.bench.load import Plan, Void, Window
from tests.bench.processes import ROOT, Server, environment, on_core

BUSY = 0.95
"""Share of its core from which a process counts as the bottleneck."""


class Figures(Struct):
    """One server's rounds. `share`: of the first server's requests a second, within a round."""

    name: str
    requests_per_second: Spread
    share: Spread
    server_busy: Spread | None
    generator_busy: Spread
    cpu_us: Spread | None

    @property
    def generator_bound(self) -> bool:
        """True where the server had time to spare and the generator had none: its number is then a lower bound."""
        idle = self.server_busy is not None and self.server_busy.median < BUSY
        return idle and self.generator_busy.median >= BUSY

    @property
    def disturbed(self) -> bool:
        """True where in a round neither had the whole of its core: something else was running."""
        idle = self.server_busy is not None and self.server_busy.low < BUSY
        return idle and self.generator_busy.high < BUSY


def remarks(servers: Iterable[Figures]) -> list[str]:
    """Return what a reader has to know before believing the figures."""
    found = []
    for each in servers:
        if each.generator_bound:
            busy = f"{each.generator_busy.median:.0%} busy"
            found.append(f"{each.name}: the generator was the bottleneck ({busy}), the server could do more.")
        elif each.disturbed and each.server_busy:
            got = f"{each.server_busy.low:.0%}"
            found.append(
                f"{each.name}: in one round the server had only {got} of its core; CPU times are the better guide."
            )
    return found


def loaded(plan: Plan, core: int | None) -> Window:
    """Run the generator in a process of its own, on its core.

    Raises:
        Void: with what the generator says.
    """
    with on_core(core):
        run = subprocess.run(
            [sys.executable, "-m", "tests.bench.load"],
            input=msgspec.msgpack.encode(plan),
            capture_output=True,
            env=environment({}),
            cwd=ROOT,
            check=False,
        )
    if run.returncode != 0:
        raise Void(run.stderr.decode(errors="replace").strip())
    return msgspec.json.decode(run.stdout, type=Window)


def loaded_server(server: Server, plan: Plan, core: int | None) -> Window:
    """Run the generator against a server of ours.

    Raises:
        Void: with what the generator says, and the server too where it is gone.
    """
    try:
        return loaded(plan, core)
    except Void as void:
        raise Void(f"{void}{server.epitaph()}") from None


@contextmanager
def awake(server: Server) -> Iterator[None]:
    """Let a frozen server run for a while."""
    server.thaw()
    try:
        yield
    finally:
        server.freeze()


def in_turns(
    servers: Mapping[str, Server], rounds: int, run: Callable[[str, int], Window], say: Callable[[str], None]
) -> dict[str, list[Window]]:
    """Measure each server once a round, beginning with another one each time; all others are frozen meanwhile.

    Args:
        servers: by name, running.
        rounds: how often.
        run: measures a server, given its name and the number of the round.
        say: is told what is going on.
    """
    windows: dict[str, list[Window]] = {name: [] for name in servers}
    for server in servers.values():
        server.freeze()
    for turn in range(rounds):
        for name in rotated(list(servers), turn):
            with awake(servers[name]):
                try:
                    window = run(name, turn)
                except Void as void:
                    raise Void(f"{name}: {void}") from None
            windows[name].append(window)
            say(f"round {turn + 1} of {rounds}: {name}, {window.requests / window.seconds:,.0f}/s")
    return windows


def figures(windows: Mapping[str, Sequence[Window]]) -> list[Figures]:
    """Compute the figures of each server. Shares are taken within a round, then the median of them."""
    first = next(iter(windows.values()))
    return [_figures(name, own, first) for name, own in windows.items()]


def _figures(name: str, own: Sequence[Window], first: Sequence[Window]) -> Figures:
    cpu = _cpu_us(own)
    return Figures(
        name=name,
        requests_per_second=spread(_rates(own)),
        share=spread(ratios(_rates(own), _rates(first))),
        server_busy=spread([each.server_cpu / each.seconds for each in own if each.server_cpu is not None])
        if cpu
        else None,
        generator_busy=spread(each.generator_cpu / each.seconds for each in own),
        cpu_us=spread(cpu) if cpu else None,
    )


def _rates(windows: Sequence[Window]) -> list[float]:
    return [each.requests / each.seconds for each in windows]


def _cpu_us(windows: Sequence[Window]) -> list[float] | None:
    """Return CPU microseconds a request, None where the system does not tell."""
    known = [each.server_cpu / each.requests * 1e6 for each in windows if each.server_cpu is not None]
    return known if len(known) == len(windows) else None

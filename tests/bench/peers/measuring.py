"""One run: the collector, the echo and calsvc, then the peers; each asked the same, checked, and measured in turns."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from calsvc.model.bundle import Bundle
from calsvc.model.target import to_kcal
from tests.bench import part
from tests.bench.asking import collects
from tests.bench.load import Plan, Void, Window
from tests.bench.measure import in_turns, loaded
from tests.bench.peers.asking import demand_agreement, kcal_of
from tests.bench.peers.declared import Peer, Site
from tests.bench.peers.making import FAILURES, reason
from tests.bench.peers.report import CALSVC, ECHO
from tests.bench.peers.running import Tree, running
from tests.bench.peers.wire import PLACE_OF_ID, Question, Template, number_at, template
from tests.bench.processes import Cores, Program, Server, serving
from tests.bench.rungs import SAMPLED, Rung, program

CHECKED: Final = 256
"""Rows that a peer has to answer as calsvc does; their cost tells which of its processes does the work."""
OURS: Final = (
    Rung(ECHO, ("tests.bench.echo",)),
    Rung(CALSVC, ("calsvc",), SAMPLED, traced=True),
)
NOTHING: Final = Window(seconds=1.0, requests=0, total=0, server_cpu=None, generator_cpu=0.0)


class Order(NamedTuple):
    """What to measure. `sites` holds the peers that could be made; `log` is a folder for what the servers print."""

    options: part.Options
    cores: Cores
    bundle: Bundle
    questions: list[Question]
    sites: Mapping[Peer, Site]
    log: Path


class Contestant(NamedTuple):
    """A server that runs, and what it is asked."""

    server: Server | Tree
    requests: list[Template]


def measure(order: Order) -> tuple[dict[str, list[Window]], dict[str, str]]:
    """Return the windows of every server that was measured, and for the other peers the reason.

    Raises:
        Void: calsvc or the echo has not answered every request with 200.
        RuntimeError: one of them could not be started.
    """
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        contestants = _own(stack, order)
        reference = kcal_of(*_sample(contestants[CALSVC]), number_at("Calories"))
        for peer, site in order.sites.items():
            part.say(f"{peer.name}: starting")
            try:
                contestants[peer.name] = _peer(stack, order, peer, site, reference)
            except FAILURES as error:
                missing[peer.name] = reason(error)
                part.say(f"{peer.name}: {missing[peer.name]}")

        def run(name: str, turn: int) -> Window:
            if name in missing:
                return NOTHING
            try:
                return _window(order, contestants[name], turn)
            except Void as void:
                if name in (ECHO, CALSVC):
                    raise
                missing[name] = reason(void)
                return NOTHING

        servers = {name: each.server for name, each in contestants.items()}
        windows = in_turns(servers, order.options.rounds, run, part.say)
    return {name: own for name, own in windows.items() if name not in missing}, missing


def _own(stack: ExitStack, order: Order) -> dict[str, Contestant]:
    """Start the echo and calsvc, the latter with everything on."""
    sink = Program(("tests.bench.sink",), {}, collects)
    collector = stack.enter_context(serving(sink, order.log, order.cores.generator))
    requests = [template("/predict", {"id": PLACE_OF_ID, **each.row}) for each in order.questions]
    started = {}
    for rung in OURS:
        run = program(rung, collector.port)
        run = run._replace(environ={**run.environ, "CALSVC_MODEL": str(order.bundle.folder)})
        started[rung.name] = Contestant(stack.enter_context(serving(run, order.log, order.cores.server)), requests)
    return started


def _peer(stack: ExitStack, order: Order, peer: Peer, site: Site, reference: list[float]) -> Contestant:
    """Start a peer and check what it answers.

    Raises:
        One of `FAILURES`.
    """
    requests = [template(peer.path, peer.body(each)) for each in order.questions]
    log = order.log / f"{site.models.name}.log"
    tree = stack.enter_context(running(peer, site, requests[0], order.cores.server, log))
    contestant = Contestant(tree, requests)
    found: list[float] = []
    tree.find_worker(lambda: found.extend(kcal_of(*_sample(contestant), _kcal(peer, order.bundle))))
    demand_agreement(found, reference)
    return contestant


def _sample(contestant: Contestant) -> tuple[int, list[Template]]:
    return contestant.server.port, contestant.requests[:CHECKED]


def _kcal(peer: Peer, bundle: Bundle) -> Callable[[bytes], float]:
    """Return the function from a peer's answer to kcal."""
    inverse = to_kcal(bundle.manifest.target)
    return (lambda answer: inverse(peer.number(answer))) if peer.sum_of_trees else peer.number


def _window(order: Order, contestant: Contestant, turn: int) -> Window:
    """Load one server once."""
    plan = Plan(
        port=contestant.server.port,
        pid=contestant.server.pid,
        templates=contestant.requests,
        warmup=order.options.warmup,
        seconds=order.options.seconds,
        turn=turn,
    )
    return loaded(plan, order.cores.generator)

"""Which loads and which settings are compared, and what of each run is kept."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from capacity.behavior import DOWN, UP, Bounds, Policy, Rules
from capacity.load import Load
from capacity.measured import Measured
from capacity.runs import Autoscaler, Moment, Outcome, Setup
from capacity.service import Cost, Replica
from capacity.simulation import simulate

PHASES: Final = (1.0, 6.0, 11.0)
"""When, after the load began, metrics are looked at: luck that nobody chooses. Each setup is run with all of them."""
MOST: Final = 20
CPU: Final = 150
REQUEST: Final = 0.1
PLAN_RPS: Final = 20.0
STRESS_RPS: Final = 500.0
THOUSANDFOLD: Final = 1000 * PLAN_RPS
SLOWLY: Final = Rules((Policy("Percent", 50, 60), Policy("Pods", 1, 60)), window=300.0)
"""Five minutes after the last need of them, half of the replicas may go every minute."""


Between = tuple[float, float]


class Figure(Struct, frozen=True):
    """What came of a setup, over all phases: lowest and highest."""

    most: Between
    """replicas, at the peak"""
    first_more: Between | None
    """seconds from the load's begin until there was one more replica; None where in some phase there never was"""
    failed: Between
    """predictions refused, percent"""
    p99: Between
    """milliseconds: the worst five seconds"""
    back: Between | None
    """seconds from the load's last record until there were as few replicas as at the start; None: not within the run"""
    replica_minutes: Between


class Run(Struct, frozen=True):
    """A setup by name, its figures, and the moments of its middle phase where they are to be drawn."""

    load: str
    setting: str
    figure: Figure
    moments: list[Moment] = []


class Setting(Struct, frozen=True):
    """How an autoscaler is set, in words and in values."""

    name: str
    autoscaler: Autoscaler
    replica: Replica
    reconnect: float = 0.0


def replica_of(measured: Measured, limit: float = 0.5) -> Replica:
    """Return a replica that costs what was measured."""
    return Replica(Cost(measured.points), limit, limit, start_cpu=measured.start_seconds)


def settings(replica: Replica, high: int = MOST) -> list[Setting]:
    """Return what is compared: the recommended setting first, then what is otherwise in each of the others."""
    bounds = Bounds(2, high, UP, SLOWLY)
    best, half = Autoscaler(bounds, cpu=CPU), replica._replace(request=REQUEST)
    quick = bounds._replace(down=DOWN._replace(window=60.0))
    dear = half._replace(cost=Cost(tuple((rate, 4 * cost) for rate, cost in half.cost.points)))
    return [
        Setting("recommended", best, half),
        Setting("at most four replicas", best._replace(bounds=bounds._replace(high=4)), half),
        Setting("one replica at least", best._replace(bounds=bounds._replace(low=1)), half),
        Setting("four replicas at least", best._replace(bounds=bounds._replace(low=4)), half),
        Setting("target 75 %", best._replace(cpu=75), half),
        Setting("target 250 %", best._replace(cpu=250), half),
        Setting("and refusals, 100 a second", best._replace(refused=100.0), half),
        Setting("requests in flight at the proxy, 8, instead of CPU", best._replace(cpu=None, in_flight=8.0), half),
        Setting("metrics every 60 s (minikube's addon)", best._replace(resolution=60.0), half),
        Setting("down after 60 s, all at once", best._replace(bounds=quick), half),
        Setting("a proxy that hears of a replica 15 s later", best, half._replace(probe=half.probe + 15)),
        Setting("connections live 60 s, no proxy", best, half, reconnect=60.0),
        Setting("a call costs four times as much", best, dear),
    ]


def loads(plan: float = PLAN_RPS, stress: float = STRESS_RPS, many: float = THOUSANDFOLD) -> list[Load]:
    """Return the loads: the plan's bursts, those of a load test, a load test, and both a thousandfold."""
    bursts = {"on": 5.0, "off": 25.0, "lasts": 600.0, "truth_after": 300.0}
    return [
        Load(name=f"{plan:,.0f}/s in bursts", rps=plan, **bursts),
        Load(name=f"{stress:,.0f}/s in bursts", rps=stress, **bursts),
        Load(name=f"{stress:,.0f}/s steady", rps=stress),
        Load(name=f"{many:,.0f}/s in bursts", rps=many, **bursts),
        Load(name=f"{many:,.0f}/s steady", rps=many),
    ]


def run(load: Load, setting: Setting, *, drawn: bool = False) -> Run:
    """Simulate one setting under one load, in all phases."""
    outcomes = [
        simulate(Setup(load, setting.autoscaler, setting.replica, phase, setting.reconnect)) for phase in PHASES
    ]
    moments = [rounded(each) for each in outcomes[1].moments] if drawn else []
    return Run(load.name, setting.name, figure(load, setting, outcomes), moments)


def figure(load: Load, setting: Setting, outcomes: Sequence[Outcome]) -> Figure:
    """Return what is kept of the phases."""
    least = setting.autoscaler.bounds.low
    return Figure(
        most=_span(max(each.told for each in outcome.moments) for outcome in outcomes),
        first_more=_all(_first_more(outcome, least) for outcome in outcomes),
        failed=_span(100 * outcome.totals.failed / outcome.totals.predictions for outcome in outcomes),
        p99=_span(max(each.p99 for each in outcome.moments) for outcome in outcomes),
        back=_all(_back(outcome, load.lasts, least) for outcome in outcomes),
        replica_minutes=_span(outcome.replica_seconds / 60 for outcome in outcomes),
    )


def _first_more(outcome: Outcome, least: int) -> float | None:
    return next((each.at for each in outcome.moments if each.at > 0 and each.ready > least), None)


def _back(outcome: Outcome, end: float, least: int) -> float | None:
    more = [each.at for each in outcome.moments if each.told > least]
    if not more or max(more) >= outcome.moments[-1].at:
        return None
    return max(more) - end


def _all(values: Iterable[float | None]) -> Between | None:
    known = list(values)
    return _span(each for each in known if each is not None) if None not in known else None


def _span(values: Iterable[float]) -> Between:
    known = [_rounded(each) for each in values]
    return min(known), max(known)


def _rounded(value: float) -> float:
    """Return a number with as many digits as say something."""
    return float(f"{value:.4g}")


def rounded(moment: Moment) -> Moment:
    """Return a moment as it is kept: what a drawing shows."""
    rate, busy, p50, p99, errors = map(_rounded, moment[3:])
    return Moment(moment.at, moment.told, moment.ready, rate, busy, p50, p99, errors)

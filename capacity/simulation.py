"""Load, replicas, metrics and autoscaler, in steps of a tenth of a second. The same setup gives the same outcome."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from capacity.behavior import Scaler
from capacity.latency import MEDIAN, NINETY_NINE, Group, behind_others, quantile
from capacity.replicas import Average, Cpu, Metric, Pod, wanted
from capacity.runs import Moment, Outcome, Setup, Totals
from capacity.sampling import MetricsServer, Rates, Used
from capacity.service import STEP, Running, shared

LONG_AGO: Final = -3600.0
"""When the replicas started that are there from the beginning: they are believed at once."""
BEFORE: Final = 60.0
"""Seconds before the load begins, so that every pod has samples."""
AGAIN: Final = 2.0
"""Seconds until a truth that was refused comes again."""
EVERY: Final = 5.0
"""Seconds that one moment of the outcome stands for."""


def simulate(setup: Setup) -> Outcome:
    """Run a setup from a minute before the load begins to `after` seconds behind its last truth."""
    cluster = Cluster(setup)
    steps = round((BEFORE + setup.load.ends + setup.after) / STEP)
    for number in range(steps):
        cluster.step(number)
    return cluster.outcome()


@dataclass(slots=True)
class _Window:
    """Sums over the steps of one moment."""

    calls: int = 0
    failed: int = 0
    answered: int = 0
    used: float = 0.0
    limits: float = 0.0
    groups: list[Group] = field(default_factory=list)


class Cluster:
    """The state of one run."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._kind, scaler = setup.replica, setup.autoscaler
        self._told = scaler.bounds.low
        self._running = [Running(number, LONG_AGO, LONG_AGO) for number in range(self._told)]
        self._made = self._told
        self._scaler = Scaler(scaler.bounds)
        self._cpu, self._flights = MetricsServer(scaler.resolution), Rates()
        self._refusals = Rates()
        self._truths: Counter[int] = Counter()
        self._window, self._moments = _Window(), list[Moment]()
        self._counts: Counter[str] = Counter()
        self._replica_seconds = 0.0

    def step(self, number: int) -> None:
        """Do what is due, then let a tenth of a second pass."""
        now, scaler = number * STEP, self._setup.autoscaler
        if _due(number, scaler.resolution, self._setup.phase):
            self._look(now)
        if _due(number, self._flights.interval, self._setup.phase):
            self._scrape(now)
        if _due(number, scaler.sync, self._setup.phase + scaler.sync / 2):
            self._sync(now)
        self._running = [each for each in self._running if each.gone_at > now or each.waiting]
        self._replica_seconds += STEP * len(self._running)
        self._serve(number, now)
        if (number + 1) % round(EVERY / STEP) == 0:
            self._close_window(number + 1)

    def outcome(self) -> Outcome:
        """Return what has happened so far."""
        counted = {name: self._counts[name] for name in Totals._fields if name != "waiting"}
        totals = Totals(**counted, waiting=sum(each.waiting for each in self._running))
        return Outcome(self._moments, totals, self._replica_seconds)

    def _look(self, now: float) -> None:
        started = [each for each in self._running if each.started <= now]
        self._cpu.look(now, {each.number: Used(each.started, each.used) for each in started})

    def _scrape(self, now: float) -> None:
        started = [each for each in self._running if each.started <= now]
        if self._setup.autoscaler.in_flight is not None:
            self._flights.look(now, {each.number: each.durations for each in started})
        if self._setup.autoscaler.refused is not None:
            self._refusals.look(now, {each.number: float(each.refused) for each in started})

    def _sync(self, now: float) -> None:
        told = self._scaler.decide(self._told, self._recommended(now), now)
        if told > self._told:
            self._grow(told - self._told, now)
        elif told < self._told:
            self._shrink(self._told - told, now)
        self._told = told

    def _recommended(self, now: float) -> int | None:
        """Return the most that any metric asks for; nothing where one is not known and the others ask for less."""
        scaler, kind = self._setup.autoscaler, self._kind
        found: list[int | None] = []
        if scaler.cpu is not None:
            found.append(self._wanted(Cpu(scaler.cpu, kind.request), self._cpu, now))
        if scaler.refused is not None:
            found.append(self._wanted(Average(scaler.refused), self._refusals, now))
        if scaler.in_flight is not None:
            found.append(self._wanted(Average(scaler.in_flight), self._flights, now))
        known = [each for each in found if each is not None]
        if not known or (len(known) < len(found) and max(known) < self._told):
            return None
        return max(known)

    def _wanted(self, metric: Metric, samples: MetricsServer | Rates, now: float) -> int | None:
        pods = [
            Pod(
                started=each.started,
                ready=each.ready_at <= now,
                turned=each.ready_at if each.ready_at <= now else each.started,
                sample=samples.sample(each.number),
                pending=each.started > now,
                leaving=each.gone_at < float("inf"),
            )
            for each in self._running
        ]
        return wanted(self._told, pods, metric, now, self._setup.autoscaler.patience)

    def _grow(self, replicas: int, now: float) -> None:
        for _ in range(replicas):
            weight = 0.0 if self._setup.reconnect else 1.0
            begins = now + self._kind.before_start
            self._running.append(Running(self._made, begins, now + self._kind.starts_in, weight))
            self._made += 1

    def _shrink(self, replicas: int, now: float) -> None:
        """Let the youngest go: a ReplicaSet takes those first that are not ready, then those that are so for least."""
        staying = [each for each in self._running if each.gone_at == float("inf")]
        for each in sorted(staying, key=lambda one: one.number)[-replicas:]:
            each.unlisted_at = now + self._kind.unlisted
            each.gone_at = now + max(self._kind.drain, self._kind.unlisted)

    def _serve(self, number: int, now: float) -> None:
        predictions, truths = self._arrivals(number, now)
        calls = predictions + truths
        if not calls and not any(each.waiting for each in self._running):
            self._rest(now)
            return
        listed = [each for each in self._running if each.ready_at <= now < each.unlisted_at]
        self._spread(listed)
        shares = shared(calls, [each.weight for each in listed], number) if listed else []
        given = dict(zip((each.number for each in listed), shares, strict=True))
        refused = 0 if listed else calls
        for each in self._running:
            refused += self._serve_one(each, given.get(each.number, 0), now)
        self._count(number, (predictions, truths), refused)

    def _rest(self, now: float) -> None:
        """Let a step pass in which nobody has anything to do, but to start: most are like that."""
        for each in self._running:
            if each.ready_at <= now:
                each.rest()
                self._window.limits += self._kind.limit * STEP
            elif each.started <= now:
                each.idle_until(self._kind)

    def _arrivals(self, number: int, now: float) -> tuple[int, int]:
        load, since = self._setup.load, now - BEFORE
        return load.records(since + STEP) - load.records(since), self._truths.pop(number, 0)

    def _spread(self, listed: list[Running]) -> None:
        """Let weights become equal, as fast as connections are made anew."""
        if not self._setup.reconnect or not listed:
            return
        total, share = sum(each.weight for each in listed), min(1.0, STEP / self._setup.reconnect)
        equal = (total or 1.0) / len(listed)
        for each in listed:
            each.weight += (equal - each.weight) * share

    def _serve_one(self, each: Running, arrivals: int, now: float) -> int:
        if each.ready_at > now:
            if each.started <= now:
                each.idle_until(self._kind)
            return 0
        used, window = each.used, self._window
        served = each.serve(arrivals, self._kind)
        window.used += each.used - used
        window.limits += self._kind.limit * STEP
        window.answered += served.answered
        if served.answered and (served.first or served.last):
            window.groups.append(Group(served.answered, served.first, served.last))
        self._counts["answered"] += served.answered
        return served.refused

    def _count(self, number: int, arrived: tuple[int, int], refused: int) -> None:
        """Count a step; a prediction that was taken brings its truth, a truth that was refused comes again."""
        predictions, truths = arrived
        calls = predictions + truths
        failed = max(refused - truths, round(refused * predictions / calls)) if calls else 0
        self._counts.update(arrivals=calls, refused=refused, predictions=predictions, failed=failed)
        self._window.calls += calls
        self._window.failed += failed
        if (delay := self._setup.load.truth_after) is not None and predictions > failed:
            self._truths[number + max(1, round(delay / STEP))] += predictions - failed
        if refused > failed:
            self._truths[number + round(AGAIN / STEP)] += refused - failed

    def _close_window(self, steps: int) -> None:
        now = round(steps * STEP, 1)
        window, self._window = self._window, _Window()
        ready = sum(each.ready_at <= now < each.gone_at for each in self._running)
        busy = window.used / window.limits if window.limits else 0.0
        cost = window.used / window.answered if window.answered else 0.0
        core = busy * self._kind.limit
        p50, p99 = (
            1000 * (cost + behind_others(core, cost, share) + quantile(window.groups, window.answered, share))
            for share in (MEDIAN, NINETY_NINE)
        )
        rate, errors = window.calls / EVERY, window.failed / EVERY
        self._moments.append(Moment(now - BEFORE, self._told, ready, rate, busy, p50, p99, errors))


def _due(number: int, period: float, phase: float) -> bool:
    return (number - round(phase / STEP)) % round(period / STEP) == 0

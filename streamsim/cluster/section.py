"""What the cluster did during a load test: a section of the HTML report, and the same for its JSON. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from streamsim.charts import Axis, Line
from streamsim.cluster.objects import Look
from streamsim.stress_report import figure, table
from streamsim.timeline import Second

NOT_SEEN: Final = "not seen"


class Watched(NamedTuple):
    """All looks, and when the load began and ended (wall clock, seconds). `failed`: reasons of looks that are missing.

    `seconds`: the load itself, second by second.
    """

    looks: Sequence[Look]
    began: float
    ended: float
    failed: Mapping[str, int]
    seconds: Sequence[Second]


class Turn(NamedTuple):
    """At so many seconds of the load, the autoscaler told the Deployment to have another number of replicas."""

    at: float
    before: int
    after: int


def turns(watched: Watched) -> list[Turn]:
    """Return every change of the number of replicas, seen at the first look after it."""
    pairs = zip(watched.looks, watched.looks[1:], strict=False)
    return [Turn(new.at - watched.began, old.told, new.told) for old, new in pairs if new.told != old.told]


def facts(watched: Watched) -> dict[str, str]:
    """Return what a reader looks for first, in words."""
    least, most = watched.looks[0].told, max(each.told for each in watched.looks)
    changed = turns(watched)
    up = next((each for each in changed if each.after > each.before), None)
    ready = _first(watched, lambda look: look.ready > least and look.at > watched.began)
    down = next(
        (each for each in changed if each.after < each.before and each.at + watched.began > watched.ended), None
    )
    back = _back(watched, least)
    end = watched.ended - watched.began
    cores = [each.cores for each in watched.looks if each.cores is not None]
    return {
        "replicas before, at most": f"{least}, {most}",
        "told to grow after": _seconds(up.at if up else None),
        "one more was ready after": _seconds(ready),
        "first went, after the load's end": _seconds(down.at - end if down else None),
        "as few as before, after the load's end": _seconds(back - end if back is not None else None),
        "most CPU of all replicas": f"{max(cores):.2f} cores" if cores else NOT_SEEN,
        "watched after the load's end": _seconds(watched.looks[-1].at - watched.ended),
    }


def _first(watched: Watched, wanted: Callable[[Look], bool]) -> float | None:
    return next((each.at - watched.began for each in watched.looks if wanted(each)), None)


def _back(watched: Watched, least: int) -> float | None:
    """Return when the last replica too many had gone for good; None where none came, or not all went."""
    more = [number for number, each in enumerate(watched.looks) if max(each.told, each.ready) > least]
    if not more or more[-1] + 1 >= len(watched.looks):
        return None
    return watched.looks[more[-1] + 1].at - watched.began


def _seconds(value: float | None) -> str:
    return NOT_SEEN if value is None else f"{round(value)} s"


def as_html(watched: Watched) -> str:
    """Return the section: facts, charts over one common time, every change, and what could not be seen."""
    told = [(f"{each.at:.0f} s", f"{each.before} to {each.after}", _when(watched, each)) for each in turns(watched)]
    missing = [(reason, str(number)) for reason, number in watched.failed.items()]
    parts = [
        "<h2>The cluster meanwhile</h2>",
        table(("", "value"), facts(watched).items()),
        "<p>Seconds count from the first record; what is left of 0 was before the load, as far as the clocks of the "
        "cluster and of this machine agree. CPU comes from metrics-server, which averages and is late; the percentage "
        "is what the autoscaler acts on.</p>",
        '<div class="grid2">' + "".join(_figures(watched)) + "</div>",
        table(("change at", "replicas", "when"), told) if told else "<p>The number of replicas did not change.</p>",
        table(("what could not be seen", "times"), missing) if missing else "",
    ]
    return "".join(parts)


def _when(watched: Watched, turn: Turn) -> str:
    if turn.at < 0:
        return "before the load"
    return "during the load" if turn.at <= watched.ended - watched.began else "after the load"


def _figures(watched: Watched) -> list[str]:
    first, last = (watched.looks[end].at - watched.began for end in (0, -1))
    load = [each for each in watched.seconds if each.planned]
    axis = Axis(title="seconds", ends=(min(first, 0.0), max(last, *(each.second for each in load), 0.0)))

    def seen(name: str, style: str, value: Callable[[Look], float | None]) -> Line:
        return Line(name, style, [(each.at - watched.began, value(each)) for each in watched.looks])

    def sent(name: str, style: str, value: Callable[[Second], float | None]) -> Line:
        return Line(name, style, [(each.second, value(each)) for each in load])

    return [
        figure(
            "Replicas", [seen("ready", "a", lambda look: look.ready), seen("told", "b", lambda look: look.told)], axis
        ),
        figure(
            "CPU, percent of the request",
            [
                seen("seen by the autoscaler", "a", lambda look: look.scaling and look.scaling.percent),
                seen("aimed at", "b", lambda look: look.scaling and look.scaling.target),
            ],
            axis,
        ),
        figure("CPU of all replicas, cores", [seen("used", "a", lambda look: look.cores)], axis),
        figure("Requests per second, sent", [sent("sent", "a", lambda second: second.sent)], axis),
        figure(
            "Milliseconds from planned send, over all",
            [sent("p99", "a", lambda second: second.p99), sent("p95", "b", lambda second: second.p95)],
            axis,
        ),
        figure("Errors per second, over all", [sent("errors", "c", lambda second: second.errors)], axis),
    ]


def as_json(watched: Watched) -> dict[str, Any]:
    """Return the section as JSON: seconds from the first record, CPU in cores and in percent of the request."""
    return {
        "facts": facts(watched),
        "load_s": [0.0, watched.ended - watched.began],
        "turns": [each._asdict() for each in turns(watched)],
        "looks": [_look(each, watched.began) for each in watched.looks],
        "not_seen": dict(watched.failed),
    }


def _look(look: Look, began: float) -> dict[str, Any]:
    scaling = look.scaling._asdict() if look.scaling else None
    return {**look._asdict(), "at": look.at - began, "scaling": scaling}

"""`just k8s-stress 500`: a load test as a Job beside the service, its report, and what the autoscaler did meanwhile."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from observability.addresses import service_argument
from observability.paths import given_path
from streamsim.cli import parser as stress_parser
from streamsim.cluster import section
from streamsim.cluster.job import job_name, manifest
from streamsim.cluster.kubectl import Kubectl
from streamsim.cluster.objects import by_kind, hindrance
from streamsim.cluster.section import Watched
from streamsim.cluster.watch import Clock, Names, Watcher
from streamsim.errors import ClusterError, SimulatorError
from streamsim.options import number
from streamsim.stress import write
from streamsim.stress_document import found, outcome_of
from streamsim.stress_report import as_html, as_json
from streamsim.summary import COULD_NOT_RUN

DEFAULT_REPORT: Final = Path("data/k8s-stress")
START: Final = 60.0
"""Seconds that the Job's pod may take to start before it is asked what hinders it."""


class Plan(NamedTuple):
    """What is asked for. `stress`: the arguments of `python -m streamsim stress`; times in seconds."""

    stress: Sequence[str]
    seconds: float
    names: Names
    simulator: str
    every: float
    watch: float
    cpu: str


def main(arguments: Sequence[str], clock: Clock = Clock()) -> int:  # noqa: B008  immutable
    """Run one load test in the cluster, and return its exit code.

    Exit codes are those of `stress`: 0 thresholds met, 1 could not run, 2 usage, 99 a threshold was missed.
    """
    options, rest = parser().parse_known_args(arguments)
    asked = stress_parser().parse_args(["stress", *rest])  # usage is told here, and not by a pod in a minute
    plan = Plan(
        stress=["stress", *rest, "--url", options.url, "--report", "-"],
        seconds=asked.duration + asked.feedback_delay,
        names=Names(options.deployment, None if options.no_autoscaler else options.autoscaler or options.deployment),
        simulator=options.simulator,
        every=options.every,
        watch=options.watch,
        cpu=options.cpu,
    )
    try:
        return _reported(plan, Kubectl(options.kubectl, options.namespace, options.context), options.report, clock)
    except KeyboardInterrupt:
        print("streamsim: interrupted", file=sys.stderr)
    except SimulatorError as error:
        print(f"streamsim: {error}", file=sys.stderr)
    return COULD_NOT_RUN


def parser() -> argparse.ArgumentParser:
    """Build the parser of what `stress` does not have; everything else is for that."""
    top = argparse.ArgumentParser(
        prog="just k8s-stress",
        usage="%(prog)s [option ...] RPS [option of stress ...]",
        description="Runs `stress` as a Job in the cluster, watches replicas and CPU, and writes one report.",
        epilog="Exit codes: 0 thresholds met, 1 could not run, 2 usage, 99 a threshold was missed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    seconds = number(1, 86_400)
    top.add_argument("--namespace", default="calsvc", metavar="NAME", help="where the service is")
    top.add_argument("--context", metavar="NAME", help="which cluster; that of kubectl if not given")
    top.add_argument("--kubectl", default="kubectl", metavar="PROGRAM", help="what is asked")
    top.add_argument("--deployment", default="calsvc", metavar="NAME", help="what is watched")
    top.add_argument("--autoscaler", metavar="NAME", help="its HorizontalPodAutoscaler; the same name if not given")
    top.add_argument("--no-autoscaler", action="store_true", help="there is none, and none is needed")
    top.add_argument("--simulator", default="streamsim", metavar="NAME", help="Deployment whose pod sends the load")
    top.add_argument(
        "--url", type=service_argument, default="http://calsvc:8000", help="the service, as the pod reaches it"
    )
    top.add_argument("--cpu", default="1", metavar="CORES", help="limit of the pod that sends the load")
    top.add_argument("--every", type=number(0.05, 300), default=5.0, metavar="S", help="between two looks")
    top.add_argument("--watch", type=seconds, default=600.0, metavar="S", help="longest look after the load's end")
    top.add_argument("--report", type=given_path, default=DEFAULT_REPORT, metavar="DIR", help="where the report goes")
    return top


def _reported(plan: Plan, kubectl: Kubectl, folder: Path, clock: Clock) -> int:
    """Load, watch and write the report.

    Raises:
        SimulatorError: there is no report to write, or it cannot be written.
    """
    watcher = Watcher(kubectl, plan.names, clock)
    simulator = _simulator(kubectl, plan.simulator)
    first = watcher.first()
    print(f"before: {first.ready} of {first.told} replicas ready; the load begins", flush=True)
    log = _loaded(plan, kubectl, watcher, simulator, clock)
    document = found(log)
    if document is None:
        said = [line for line in log.splitlines() if line.strip()] or ["nothing"]
        raise ClusterError(f"the Job has left no report; its last line: {said[-1]}")
    outcome = outcome_of(document)
    began, ended = _when(document)
    _watch_on(plan, watcher, ended, clock)
    watched = Watched(watcher.looks, began, ended, watcher.failed, outcome.measured.seconds)
    cluster = {"cluster": section.as_json(watched)}
    write(folder, as_json(outcome) | cluster, as_html(outcome, [section.as_html(watched)]))
    for name, value in section.facts(watched).items():
        print(f"{name:<40} {value}")
    print(f"report: {folder / 'report.html'}", flush=True)
    for line in filter(None, (outcome.note, outcome.verdict.reason)):
        print(f"streamsim: {line}", file=sys.stderr)
    return outcome.verdict.exit_code


def _simulator(kubectl: Kubectl, name: str) -> dict[str, Any]:
    objects = by_kind(kubectl.ask("get", f"deployment/{name}", "--output", "json", "--ignore-not-found"))
    if "Deployment" not in objects:
        advice = "the component simulator of deploy/kustomize has it; --simulator names another"
        raise ClusterError(f"there is no Deployment {name} whose pod could send the load; {advice}")
    return dict(objects["Deployment"])


def _loaded(plan: Plan, kubectl: Kubectl, watcher: Watcher, simulator: dict[str, Any], clock: Clock) -> str:
    """Run the Job to its end, looking at the cluster meanwhile; return its log. Nothing is left of it afterwards."""
    name = job_name(plan.simulator, clock.wall())
    job = manifest(name, simulator, plan.stress, plan.seconds, plan.cpu)
    kubectl.ask("create", "--filename", "-", given=json.dumps(job))
    container = job["spec"]["template"]["spec"]["containers"][0]["name"]
    try:
        deadline = clock.wall() + job["spec"]["activeDeadlineSeconds"] + START
        patient = clock.wall() + START
        while (ended := watcher.look(name)) is None:
            if clock.wall() > deadline:
                raise ClusterError(f"the Job {name} has not ended in time; kubectl describe job/{name}")
            if clock.wall() > patient:
                patient = clock.wall() + START
                if reason := _hindered(kubectl, name):
                    raise ClusterError(f"the pod of the Job does not start: {reason}")
            clock.sleep(plan.every)
        if ended == "DeadlineExceeded":
            raise ClusterError(f"the Job {name} was ended by Kubernetes after its deadline")
        return kubectl.ask("logs", f"job/{name}", "--container", container, "--tail", "-1")
    finally:
        _quietly(lambda: kubectl.ask("delete", f"job/{name}", "--wait=false", "--ignore-not-found"))


def _hindered(kubectl: Kubectl, job: str) -> str | None:
    return hindrance(kubectl.ask("get", "pods", "--selector", f"batch.kubernetes.io/job-name={job}", "-o", "json"))


def _when(document: dict[str, Any]) -> tuple[float, float]:
    """Return when the load's first second began and its last one ended, by the pod's clock."""
    began = float(document["started_at"])
    return began, began + 1 + max((each["second"] for each in document["timeline"] if each["planned"]), default=0)


def _watch_on(plan: Plan, watcher: Watcher, ended: float, clock: Clock) -> None:
    """Look on until all is as small again as before, for a while at most; Ctrl-C ends it, and the report is written."""
    print(f"the load has ended; looking on for up to {plan.watch:g} s (Ctrl-C: enough seen)", flush=True)
    try:
        while clock.wall() < ended + plan.watch and not watcher.back(ended):
            clock.sleep(plan.every)
            watcher.look()
    except KeyboardInterrupt:
        print("enough seen", flush=True)
    except ClusterError as error:
        print(f"streamsim: {error}; the report ends here", file=sys.stderr)


def _quietly(call: Callable[[], object]) -> None:
    try:
        call()
    except ClusterError as error:
        print(f"streamsim: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

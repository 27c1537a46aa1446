"""The command line: what can be asked for, what is refused, and the command that sends what is still owed."""

import argparse
import shlex
from pathlib import Path
from typing import Final

from observability.addresses import service_argument, without_user
from observability.paths import given_path
from streamsim.arrivals import Schedule
from streamsim.options import burst, milliseconds, number, percent, whole
from streamsim.rows import Rows, unused_lap
from streamsim.run import Plan
from streamsim.source import DEFAULT_DATA

DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_JOURNAL: Final = Path("data/streamsim/owed.db")
GIVE_UP_AFTER_S: Final = 3600.0
DEFAULT_REPORT: Final = Path("data/stress")
_EXITS: Final = "Exit codes: 0 met, 1 could not run or could not deliver, 2 usage, 99 a threshold was missed."


def parser() -> argparse.ArgumentParser:
    """Build the parser of `python -m streamsim`."""
    top = argparse.ArgumentParser(prog="python -m streamsim", description="Replays real rows, and their truth later.")
    commands = top.add_subparsers(dest="command", required=True, metavar="stream|stress|demo")
    stream = commands.add_parser(
        "stream",
        usage="%(prog)s [--rps N] [--on S] [--off S] [option ...]",
        help="replay rows in bursts and send each truth when it is due",
        description="Sends one record a request in bursts on an open-loop schedule, and each truth when it is due.",
        epilog=_EXITS,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    _add_schedule(stream)
    _add_delivery(stream)
    _add_outcome(stream)
    _add_metrics(stream)
    _add_stress(
        commands.add_parser(
            "stress",
            help="send a high rate for a minute and judge latency and errors, with an HTML report",
            description="Sends RPS records a second on an open-loop schedule, truth alongside, and judges the outcome.",
            epilog="Exit codes: 0 thresholds met, 1 could not run, 2 usage, 99 a threshold was missed.",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )
    )
    demo = commands.add_parser(
        "demo",
        help="holdout, train, serve and stream for about a minute, then compare the service's numbers with the record",
        description="Runs the whole loop once and checks the service's numbers against the record of what was sent.",
        epilog="Exit codes: 0 all numbers agree, 1 they do not or a step failed, 2 usage.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    demo.add_argument("--duration", type=number(1, 3600), default=40.0, metavar="S", help="seconds of streaming")
    demo.add_argument(
        "--url", type=service_argument, help="use this running service instead of training and starting one"
    )
    return top


def _add_schedule(stream: argparse.ArgumentParser) -> None:
    group = stream.add_argument_group("schedule")
    positive, day = number(0, 1e6, above=True), 86_400.0
    group.add_argument(
        "--rps", type=number(0, 1e5, above=True), default=20.0, metavar="N", help="records per second of a burst"
    )
    group.add_argument("--on", type=positive, default=5.0, metavar="S", help="length of a burst")
    group.add_argument(
        "--off", type=number(0, 1e6), default=25.0, metavar="S", help="silence after a burst; 0: steady stream"
    )
    group.add_argument("--cycles", type=whole(1, 10**9), metavar="N", help="end after so many bursts")
    group.add_argument("--duration", type=positive, metavar="S", help="end after so many seconds; without both: Ctrl-C")
    group.add_argument(
        "--feedback-delay", type=number(0, 30 * day), default=300.0, metavar="S", help="when a truth is due"
    )
    group.add_argument(
        "--give-up-after",
        type=number(0, 30 * day),
        default=GIVE_UP_AFTER_S,
        metavar="S",
        help="when a truth that nobody takes is given up, from when it was due",
    )
    group.add_argument(
        "--grace", type=number(0, day), default=30.0, metavar="S", help="patience with failing deliveries at the end"
    )
    group.add_argument(
        "--speed", type=number(0, 1e5, above=True), default=1.0, metavar="X", help="divides all times above"
    )


def _add_delivery(stream: argparse.ArgumentParser) -> None:
    group = stream.add_argument_group("rows and delivery")
    group.add_argument("--data", type=given_path, default=DEFAULT_DATA, metavar="FILE", help="CSV of labelled rows")
    group.add_argument("--seed", type=whole(0, 2**63), default=0, metavar="N", help="of the order of the rows")
    group.add_argument("--url", type=service_argument, default=DEFAULT_URL, help="the service")
    group.add_argument(
        "--timeout",
        type=number(0, 3600, above=True),
        default=10.0,
        metavar="S",
        help="for one record, all tries together; not divided by --speed",
    )
    group.add_argument(
        "--journal", type=given_path, default=DEFAULT_JOURNAL, metavar="FILE", help="where owed truths are kept"
    )
    group.add_argument(
        "--resume", action="store_true", help="send what earlier runs owe; new records only with --cycles or --duration"
    )


def _add_outcome(stream: argparse.ArgumentParser) -> None:
    group = stream.add_argument_group("outcome")
    group.add_argument(
        "--record", type=given_path, metavar="FILE", help="NDJSON of predictions and truths (continued by --resume)"
    )
    group.add_argument("--report", type=given_path, metavar="FILE", help="summary as JSON")
    group.add_argument("--log", choices=("text", "json"), default="text", help="json: log lines instead of a display")
    group.add_argument(
        "--max-errors", type=percent, metavar="PERCENT", help="exit with 99 above this share of failed records"
    )


def _add_stress(stress: argparse.ArgumentParser) -> None:
    stress.add_argument("rps", type=number(0, 1e5, above=True), metavar="RPS", help="records per second")
    load, outcome = stress.add_argument_group("load"), stress.add_argument_group("outcome")
    seconds, positive = number(0, 86_400), number(0, 86_400, above=True)
    load.add_argument("--duration", type=positive, default=60.0, metavar="S", help="seconds of arrivals")
    load.add_argument("--ramp", type=seconds, default=0.0, metavar="S", help="seconds in which the rate rises from 0")
    load.add_argument("--burst", type=burst, metavar="ON/OFF", help="seconds of sending and of silence, in turns")
    load.add_argument("--arrivals", choices=("poisson", "constant"), default="poisson", help="how they are spaced")
    load.add_argument("--concurrency", type=whole(1, 10_000), metavar="N", help="most requests in flight; 10000")
    load.add_argument("--feedback-delay", type=seconds, default=5.0, metavar="S", help="when a truth is due")
    load.add_argument("--timeout", type=positive, default=10.0, metavar="S", help="for one record, all tries together")
    load.add_argument("--retry", action="store_true", help="try again what failed in passing; else it is an error")
    load.add_argument("--data", type=given_path, default=DEFAULT_DATA, metavar="FILE", help="CSV of labelled rows")
    load.add_argument("--seed", type=whole(0, 2**63), default=0, metavar="N", help="of rows and arrivals")
    load.add_argument("--url", type=service_argument, default=DEFAULT_URL, help="the service")
    outcome.add_argument("--p99", type=milliseconds, default="50ms", metavar="TIME", help="most p99 from planned send")
    outcome.add_argument(
        "--errors", type=percent, default="0.1%", metavar="SHARE", help="largest share of failed records"
    )
    outcome.add_argument(
        "--report", type=given_path, default=DEFAULT_REPORT, metavar="DIR", help="where the report goes"
    )
    _add_metrics(stress)


def _add_metrics(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("metrics, for Prometheus")
    group.add_argument(
        "--metrics-port",
        type=whole(0, 65_535),
        metavar="N",
        help="where /metrics is while the run lasts; 9464, 0: nowhere",
    )
    group.add_argument("--metrics-host", metavar="HOST", help="of that port; 127.0.0.1")


def wants_records(options: argparse.Namespace) -> bool:
    """Say whether new records are to be streamed: always, except for a --resume alone."""
    return not options.resume or options.cycles is not None or options.duration is not None


def make_plan(options: argparse.Namespace, rows: Rows | None) -> Plan:
    """Turn parsed options into a plan in real seconds."""
    schedule = Schedule(options.rps, options.on, options.off, options.cycles, options.duration, options.speed)
    return Plan(
        url=options.url,
        schedule=schedule,
        journal=options.journal,
        rows=rows,
        first_lap=unused_lap() if options.resume else 0,  # the service may still know the ids of the run before
        feedback_delay=options.feedback_delay / options.speed,
        give_up_after=options.give_up_after / options.speed,
        grace=options.grace / options.speed,
        timeout=options.timeout,
        resume=options.resume,
        record=options.record,
    )


def resume_command(plan: Plan) -> str:
    """Return the command, ready for a shell, that sends what this plan's journal still owes, without the password."""
    url = without_user(plan.url)
    if url != plan.url:
        url = url.replace("://", "://USER:PASSWORD@", 1)
    words = ["python", "-m", "streamsim", "stream", "--resume", "--url", url, "--journal", str(plan.journal)]
    if plan.give_up_after != GIVE_UP_AFTER_S:
        words += ["--give-up-after", f"{plan.give_up_after:.9g}"]
    if plan.record is not None:
        words += ["--record", str(plan.record)]
    return shlex.join(words)

"""`python -m streamsim stream|stress|demo ...`: options in, exit code out."""

import argparse
import json
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from observability.http_clients import ProxyError, share_variables
from streamsim.cli import make_plan, parser, resume_command, wants_records
from streamsim.display import Output, screen_for, show_summary
from streamsim.environ import token_of
from streamsim.errors import OutputError, SimulatorError
from streamsim.run import Plan, launch
from streamsim.scrapes import scrape_of
from streamsim.source import load
from streamsim.summary import COULD_NOT_RUN, MET, Summary, Verdict, as_json, judge


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    _open_closed_streams()
    try:
        share_variables(os.environ)
        if options.command == "demo":
            from streamsim.demo import demo  # noqa: PLC0415  it loads polars, which `stream` has no room for

            return demo(options.duration, options.url)
        if options.command == "stress":
            from streamsim.stress import stress  # noqa: PLC0415  the same

            _raise_file_limit()
            return stress(options)
        return stream(options)
    except KeyboardInterrupt:
        return _say("interrupted", MET if options.command == "stream" else COULD_NOT_RUN)
    except (SimulatorError, ProxyError) as error:
        return _say(str(error), COULD_NOT_RUN)
    except BaseExceptionGroup as group:
        # A disk that fails under a running task: the same error, wrapped once per task group.
        wrapped = group.subgroup(SimulatorError)
        if wrapped is None:
            raise
        return _say(str(_first(wrapped)), COULD_NOT_RUN)


def stream(options: argparse.Namespace) -> int:
    """Do one run and tell what it came to.

    Raises:
        SimulatorError: it could not run.
    """
    scrape, token = scrape_of(options, os.environ), token_of(os.environ, options.url)
    rows = load(options.data, options.seed) if wants_records(options) else None
    plan = replace(make_plan(options, rows), scrape=scrape, token=token)
    _raise_file_limit()
    if options.log == "json":
        from streamsim.log import LogScreen, run_log, tell_end  # noqa: PLC0415  only here

        with run_log(plan.url):
            summary = launch(plan, LogScreen())
            verdict = judge(summary, options.max_errors)
            tell_end(summary, verdict)
    else:
        console = Output()
        summary = launch(plan, screen_for(console))
        verdict = judge(summary, options.max_errors)
        show_summary(console, summary)
        _tell_owed(console, plan, summary)
    if options.report is not None:
        _write_report(options.report, summary, verdict)
    return _say(verdict.reason, verdict.exit_code) if verdict.reason else verdict.exit_code


def _tell_owed(console: Console, plan: Plan, summary: Summary) -> None:
    owed = summary.totals.owed
    if owed:
        console.out(f"{owed} truths are still owed. Send them with:", highlight=False)
    elif summary.earlier:
        console.out(f"Earlier runs still owe {summary.earlier} truths. Send them with:", highlight=False)
    elif plan.resume and not summary.totals.resumed:
        console.out("Earlier runs owed nothing.", highlight=False)
    if owed or summary.earlier:
        console.out(f"  {resume_command(plan)}", highlight=False)


def _write_report(path: Path, summary: Summary, verdict: Verdict) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(as_json(summary, verdict), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: the report cannot be written: {error.strerror}") from None


def _open_closed_streams() -> None:
    """Keep the numbers of standard streams that are closed (`>&-`): libuv ends a process that closes a socket there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _raise_file_limit() -> None:
    """Each request in flight holds a socket, and the usual soft limit of 1,024 is below what the stream allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16_384 if hard == resource.RLIM_INFINITY else min(hard, 16_384)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _say(reason: str, exit_code: int) -> int:
    print(f"streamsim: {reason}", file=sys.stderr)
    return exit_code


def _first(group: BaseExceptionGroup[SimulatorError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

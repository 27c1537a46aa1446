"""How a training shows its progress: a live line on a terminal, plain lines elsewhere. Needs the train extra."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from calsvc.training.pipeline import Display

_PLAIN_EVERY: Final = 2.0
"""Seconds between two details of a stage where lines cannot be overwritten."""


class PlainDisplay:
    """One line for each stage and warning; of the details one now and then, and the last of each stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._untold = ""
        self._told_at = 0.0

    def stage(self, name: str) -> None:
        """Begin a stage; see `pipeline.Display`."""
        self.end()
        self._stage, self._told_at = name, time.monotonic()
        print(f"{name} ...", flush=True)

    def detail(self, text: str) -> None:
        """Print a detail, or keep it for later where the one before is too recent."""
        self._untold = text
        if time.monotonic() - self._told_at >= _PLAIN_EVERY:
            self.end()

    def end(self) -> None:
        """Print the last detail, where it was not printed yet."""
        if self._untold:
            print(f"{self._stage}: {self._untold}", flush=True)
        self._untold, self._told_at = "", time.monotonic()

    def warn(self, text: str) -> None:
        """Print a warning."""
        print(f"warning: {text}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class _Stage:
    name: str
    began: float
    detail: str = ""


class LiveDisplay:
    """A table of stages: what each says last, and how long it has taken (seconds)."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stages: list[_Stage] = []
        self._ended_at: float | None = None

    def stage(self, name: str) -> None:
        """Begin a stage; see `pipeline.Display`."""
        self._stages.append(_Stage(name, time.monotonic()))

    def detail(self, text: str) -> None:
        """Show a detail beside the current stage."""
        self._stages[-1].detail = text

    def warn(self, text: str) -> None:
        """Print a warning above the table."""
        self._console.print(Text(f"warning: {text}", style="yellow"))

    def end(self) -> None:
        """Stop the clock of the last stage."""
        self._ended_at = time.monotonic()

    def __rich__(self) -> Table:
        stages = list(self._stages)  # the refreshing thread draws while another stage may begin
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, min_width=18)
        table.add_column(no_wrap=True, min_width=8)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for stage, following in zip_longest(stages, stages[1:]):
            ended = following.began if following else self._ended_at or time.monotonic()
            table.add_row(Text(stage.name, style="bold"), f"{ended - stage.began:6.1f} s", Text(stage.detail))
        return table


@contextmanager
def display_progress() -> Iterator[Display]:
    """Yield the display that fits where stdout goes."""
    console = Console()
    if not console.is_terminal:
        plain = PlainDisplay()
        yield plain
        plain.end()
        return
    display = LiveDisplay(console)
    with Live(display, console=console, refresh_per_second=8):
        yield display
        display.end()

"""A server's process that tests start, stop, kill and start again."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from tests.service_process import PATIENCE

T = TypeVar("T")


def answers(url: str) -> bool:
    """Whether a URL answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - always http://127.0.0.1
            return bool(answer.status == 200)
    except OSError:
        return False


NO_MORE: Mapping[str, str] = MappingProxyType({})


class Program:
    """A program on loopback, with the same ports and files whenever it is started.

    Args:
        command: what to run; the first word is the program.
        health: URL that answers with 200 when it is ready, or what tells.
        log: file that gets what it prints, one after the other.
        environ: on top of ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        health: str | Callable[[], bool],
        log: Path,
        environ: Mapping[str, str] = NO_MORE,
    ) -> None:
        self._command = command
        self._health = health
        self._log = log
        self.environ = os.environ | dict(environ)
        """Of its next life."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self.environ, stdout=log, stderr=log)
        self.wait_for(f"an answer of {self._command[0]}", self._is_ready)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Tell it to go, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(PATIENCE)

    def signal(self, how: signal.Signals) -> None:
        """Stop it (SIGSTOP), let it go on (SIGCONT), or kill it."""
        assert self._process is not None
        self._process.send_signal(how)
        if how is signal.SIGKILL:
            self._process.wait(PATIENCE)

    @property
    def pid(self) -> int:
        """The id of its process, the last one that was started."""
        assert self._process is not None
        return self._process.pid

    def end(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

    def wait_for(self, what: str, ask: Callable[[], T]) -> T:
        """Ask again and again until the answer is true, and return it."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if answer := ask():
                return answer
            time.sleep(0.1)
        raise TimeoutError(f"{what} did not come within {PATIENCE:g} s: {self.said()[-3000:]}")

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.said()[-3000:]
        return answers(self._health) if isinstance(self._health, str) else self._health()

    def said(self) -> str:
        """All that it has printed, in all its lives."""
        return self._log.read_text(errors="replace")

"""Everything that a service sends to or is read by, all of it real, each of which can be lost and come back."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.live.collector import Collector, running_collector
from tests.live.prometheus import JOB, Prometheus, prometheus_server
from tests.live.pyroscope import Pyroscope, running_pyroscope


class Backend(Protocol):
    """A server that may be lost."""

    def signal(self, how: signal.Signals) -> None:
        """Stop it (SIGSTOP), let it go on (SIGCONT), or kill it."""

    def start(self) -> None:
        """Start it, again where it was killed, and wait until it is ready."""


class Scraper:
    """A Prometheus that can be killed and started again: same data, another port."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        self._target = target
        self._stack = ExitStack()
        self.server: Prometheus | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.end()
        self.server = self._stack.enter_context(prometheus_server(self._folder, {JOB: [self._target]}))

    def signal(self, how: signal.Signals) -> None:
        """Stop it (SIGSTOP), let it go on (SIGCONT), or kill it."""
        assert self.server is not None
        self.server.process.send_signal(how)
        if how is signal.SIGKILL:
            self.server.process.wait()

    def end(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self.server is not None:
            self.server.process.kill()
        self._stack.close()

    def sees(self) -> bool:
        """Whether its last scrape has reached the service."""
        assert self.server is not None
        return any(sample.value == 1 for sample in self.server.query("up"))


class Sinks(NamedTuple):
    """The two that a service sends to."""

    collector: Collector
    pyroscope: Pyroscope

    @property
    def environ(self) -> Mapping[str, str]:
        """What the service needs to send there."""
        return {**self.collector.senders, "PYROSCOPE_SERVER_ADDRESS": self.pyroscope.url}


@contextmanager
def running_sinks(folder: Path) -> Iterator[Sinks]:
    """Run a collector and a Pyroscope server with their files in `folder`."""
    with running_collector(folder) as collector, running_pyroscope(folder) as pyroscope:
        yield Sinks(collector, pyroscope)


@contextmanager
def running_scraper(folder: Path, target: str) -> Iterator[Scraper]:
    """Run a Prometheus with its files in `folder` that scrapes the URL `target` every second."""
    scraper = Scraper(folder, target)
    try:
        scraper.start()
        yield scraper
    finally:
        scraper.end()

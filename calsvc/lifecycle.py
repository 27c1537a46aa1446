"""Starting, ready, draining: what the probes say, and when the process may go."""

from enum import Enum

import anyio


class Phase(Enum):
    """Where the process stands. Only READY and DRAINING answer predictions."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Lifecycle:
    """The phase of one process, moved forward only."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.failure: Exception | None = None
        self.patient = False
        """Whether the process, when it goes, first gives load balancers the time to see that it is not ready."""
        self._ready = anyio.Event()
        self._leaving = anyio.Event()
        self._hurried = anyio.Event()

    @property
    def serving(self) -> bool:
        """True while predictions are answered: after SIGTERM too, until the drain delay has passed."""
        # Asked several times a request: a set would hash the phase, which an Enum does in Python.
        return self.phase is Phase.READY or self.phase is Phase.DRAINING

    @property
    def leaving(self) -> bool:
        """True once the process was told to go or has failed."""
        return self._leaving.is_set()

    def ready(self) -> None:
        """Answer from now on, unless the process was told to go while it was starting."""
        if self.phase is Phase.STARTING and not self.leaving:
            self.phase = Phase.READY
            self._ready.set()

    def drain(self, patient: bool) -> None:
        """Go: not ready any more, to be left by load balancers, and still answering if it did before. Twice: hurry."""
        if self.leaving:
            self._hurried.set()
        if self.phase is Phase.READY:
            self.phase = Phase.DRAINING
            self.patient = patient
        self._leaving.set()

    def fail(self, failure: Exception) -> None:
        """Give up: the process cannot serve, and says why, unless it was told to go anyway."""
        if self.leaving:
            return
        self.phase = Phase.FAILED
        self.failure = failure
        self._leaving.set()

    async def wait_ready(self) -> None:
        """Wait until predictions are answered."""
        await self._ready.wait()

    async def wait_hurried(self) -> None:
        """Wait until the process was told a second time to go."""
        await self._hurried.wait()

    async def wait_leaving(self) -> None:
        """Wait until the process was told to go or has failed."""
        await self._leaving.wait()

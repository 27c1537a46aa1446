"""The real service with parts replaced, by nothing or by the usual one: `python -m tests.bench.partial store objects`.

What is not named is what `python -m calsvc` has. Every replacement names the part that it stands for, so that this
breaks, and does not quietly measure something else, when the service changes.
"""

import sys
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from starlette.types import ASGIApp, Receive, Scope, Send

from calsvc.feedback.ledger import Ledger
from calsvc.feedback.store import MemoryStore
from tests.bench import usual


class ConstantScorer:
    """Knows the answer before the question."""

    engine = "onnx"

    async def score(self, _workout: Any) -> float:
        """Return 100 kcal."""
        return 100.0

    async def aclose(self) -> None:
        """Nothing is held."""


class Forgetful(MemoryStore):
    """Remembers nothing."""

    def __init__(self, *_: object) -> None:
        super().__init__(Ledger(1.0, 1))

    async def remember(self, record_id: Any, prediction: Any) -> None:
        """Forget it at once."""


async def constant_scorer(*_: Any, **__: Any) -> ConstantScorer:
    """Open no model."""
    return ConstantScorer()


def nothing(*_: Any) -> None:
    """Count nothing."""


class Unobserved:
    """Records nothing of requests."""

    def __init__(self, app: ASGIApp, *_: object) -> None:
        self.active: dict[tuple[str, str], int] = {}
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._app(scope, receive, send)


REPLACEMENTS = {
    "scoring": {"calsvc.registry.loading.open_beside": constant_scorer},
    "store": {"calsvc.service.create_store": Forgetful},
    "metrics": {"calsvc.app.RequestTelemetry": Unobserved, "calsvc.service.Service.answered": nothing},
    "logs": {"observability.requests._log": nothing},
    "objects": {"calsvc.endpoints.JsonCall": usual.endpoint},
    "histograms": {"calsvc.metering.create_histogram": usual.SdkHistogram},
    "middleware": {"calsvc.app.RequestTelemetry": usual.Instrumented, "calsvc.service.UNCOUNTED": 1},
}


def main(parts: list[str]) -> int:
    """Serve without `parts`."""
    import calsvc.__main__  # noqa: PLC0415
    import calsvc.app  # noqa: PLC0415
    import calsvc.registry.loading  # noqa: PLC0415

    with ExitStack() as stack:
        for part in parts:
            for name, replacement in REPLACEMENTS[part].items():
                stack.enter_context(patch(name, replacement))
        return calsvc.__main__.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

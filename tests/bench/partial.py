"""The real service with parts replaced by nothing: `python -m tests.bench.partial scoring store metrics`.

What is not named is what `python -m calsvc` has. Every replacement names the part that it stands for, so that this
breaks, and does not quietly measure something else, when the service changes.
"""

import logging
import sys
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch

from calsvc.feedback.ledger import Ledger
from calsvc.feedback.store import MemoryStore


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


class Silence:
    """Takes a status and forgets it."""

    span = None
    status = 0

    def __init__(self, *_: object) -> None:
        """Look at nothing."""

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def failed(self, error: Exception) -> None:
        """Say so: a measurement of failures is none."""
        raise error


REPLACEMENTS = {
    "scoring": {"calsvc.loading.open_beside": constant_scorer},
    "store": {"calsvc.service.create_store": Forgetful},
    "metrics": {"calsvc.direct.Request": Silence, "calsvc.service.Service.answered": nothing},
    "logs": {},
}


def main(parts: list[str]) -> int:
    """Serve without `parts`."""
    import calsvc.__main__  # noqa: PLC0415
    import calsvc.app  # noqa: PLC0415
    import calsvc.loading  # noqa: PLC0415

    if "logs" in parts:
        logging.disable(logging.INFO)
    with ExitStack() as stack:
        for part in parts:
            for name, replacement in REPLACEMENTS[part].items():
                stack.enter_context(patch(name, replacement))
        return calsvc.__main__.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

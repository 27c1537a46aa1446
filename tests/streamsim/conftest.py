"""The event loop that the simulator runs on, and a service that keeps count."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.streamsim.fakes import CountingService, serving

HEADER = "id,Sex,Age,Height,Weight,Duration,Heart_Rate,Body_Temp,Calories"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The simulator's own choice."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def service() -> AsyncIterator[CountingService]:
    """A well-behaved service."""
    async with serving(CountingService()) as running:
        yield running


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """A file of 50 labelled rows, in a folder with a space in its name."""
    path = tmp_path / "some rows" / "stream.csv"
    path.parent.mkdir()
    rows = (f"{i},{'fe' * (i % 2)}male,{20 + i},170.0,70.5,10,100,39.5,{i}.5" for i in range(1, 51))
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path

"""What the service takes with 100,000 predictions waiting for their truth."""

import tempfile
from pathlib import Path

import aiohttp
import anyio
from prometheus_client.parser import text_string_to_metric_families

from tests.http.test_schema import WORKOUT
from tests.service_process import ServiceProcess, service_process

PENDING = 100_000
CONNECTIONS = 16
MIB = 2**20


def sample(service: ServiceProcess, name: str) -> float:
    """One number of /metrics."""
    text = service.call("/metrics")[2].decode()
    families = text_string_to_metric_families(text)
    return next(each.value for family in families for each in family.samples if each.name == name)


async def predict_all(url: str) -> None:
    """Predict `PENDING` different records over a few connections."""
    ids = iter(range(PENDING))

    async def worker(session: aiohttp.ClientSession) -> None:
        for record_id in ids:
            async with session.post(f"{url}/predict", json=WORKOUT | {"id": record_id}) as answer:
                assert answer.status == 200
                await answer.read()

    async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
        for _ in range(CONNECTIONS):
            tasks.start_soon(worker, session)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder, service_process(Path(folder), {}) as service:
        before = sample(service, "process_resident_memory_bytes")
        anyio.run(predict_all, service.url)
        after = sample(service, "process_resident_memory_bytes")
        waiting = sample(service, "calsvc_pending_predictions")
    assert waiting == PENDING
    print("| service, resident | MiB |\n|---|---|")
    print(f"| nothing pending | {before / MIB:.0f} |")
    print(f"| {PENDING:,} pending | {after / MIB:.0f} |")
    print(f"| a pending prediction | {(after - before) / PENDING:.0f} bytes |")
    print("| goal | 250 |")


if __name__ == "__main__":
    main()

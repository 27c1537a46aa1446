"""How long after the start of the process the first prediction is answered, when a bundle exists."""

import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.http.test_schema import WORKOUT
from tests.service_process import service_process

REPETITIONS = 7


def first_answer(folder: Path) -> float:
    """Seconds from starting the process to the first 200 of /predict."""
    started = time.monotonic()
    with service_process(folder, {}, ready=False) as service:
        service.wait_until("/readyz", 200)
        status, _, _ = service.call("/predict", WORKOUT)
        taken = time.monotonic() - started
    assert status == 200
    return taken


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        times = [first_answer(Path(folder)) for _ in range(REPETITIONS)]
    print("| start of the process to the first prediction | seconds |\n|---|---|")
    print(f"| median of {REPETITIONS} | {statistics.median(times):.2f} |")
    print(f"| fastest .. slowest | {min(times):.2f} .. {max(times):.2f} |")
    print(f"| goal | 3 (CPUs: {os.cpu_count()}) |")


if __name__ == "__main__":
    main()

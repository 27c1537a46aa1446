"""`just bench`: every measurement in a process of its own, one table each."""

import subprocess
import sys

PARTS = ("startup", "service_memory", "simulator_memory")

if __name__ == "__main__":
    for part in PARTS:
        print(f"\n### {part}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"tests.bench.{part}"], check=True)

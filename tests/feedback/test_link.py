"""The way to a server whose name nobody can resolve at the moment."""

import os
import subprocess
import sys
from pathlib import Path

from tests.needs import needed, needs
from tests.service_process import ROOT

LIBRARY = Path(__file__).with_name("slow_names.c")
ASKS = """
import asyncio, gc, uvloop
from calsvc.feedback.link import Link, LinkDown

async def main():
    link = Link("redis://valkey.invalid:6379/0", b"replica", 60)
    for _ in range(2):
        try:
            await link.renew()
            await link.presence("look", in_touch=0, others=[])
        except LinkDown as down:
            print(down)
    await asyncio.sleep(1.5)
    gc.collect()
    await link.aclose()

uvloop.run(main())
"""


@needs("cc")
def test_a_name_server_that_is_away_is_one_reason_and_no_complaint(tmp_path: Path):
    """Seen in a cluster without DNS: exceptions that nobody retrieved, long after they were given up."""
    library = tmp_path / "slow_names.so"
    subprocess.run([needed("cc"), "-shared", "-fPIC", "-o", library, LIBRARY], check=True, capture_output=True)
    environ = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}
    asked = subprocess.run([sys.executable, "-c", ASKS], env=environ, capture_output=True, text=True, check=True)
    assert asked.stdout == "nobody has said where valkey.invalid is\n" * 2
    assert asked.stderr == ""

"""The handout that came is the handout that is there, byte for byte, whatever was run."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HANDOUT = ROOT / "handout_from DS_agent"
CHECKSUMS = Path(__file__).with_name("handout.sha256")


def test_the_handout_is_exactly_as_it_was_committed():
    """No file was changed, added or left behind: every path and checksum is in tests/handout.sha256."""
    found = {
        path.relative_to(HANDOUT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in HANDOUT.rglob("*")
        if path.is_file()
    }
    lines = CHECKSUMS.read_text(encoding="utf-8").splitlines()
    sealed = {name: checksum for checksum, name in (line.split("  ", 1) for line in lines)}
    assert found == sealed

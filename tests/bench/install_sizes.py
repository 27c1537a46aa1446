"""What the serving core takes on disk, alone and with an extra: installs from the lock file."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
INSTALLS: Final = {
    "serving core": (),
    "with the registry extra": ("--extra", "registry"),
    "with the train extra": ("--extra", "train"),
}
MIB: Final = 2**20


class Size(NamedTuple):
    """An environment without its interpreter: installed distributions, and bytes of all files."""

    distributions: int
    content: int


def uv() -> str | None:
    """Return the program that installs: the one on the path, or the one that `./justw` has brought."""
    return shutil.which("uv") or shutil.which("uv", path=ROOT / ".tools" / "bin")


def installed(program: str, folder: Path, extras: tuple[str, ...]) -> Size:
    """Install into a new environment in `folder` and measure it."""
    subprocess.run(
        [program, "sync", "--frozen", "--no-dev", "--quiet", *extras],
        cwd=ROOT,
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(folder)},
        check=True,
    )
    files = [each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()]
    return Size(len(list(folder.rglob("*.dist-info"))), sum(each.stat().st_size for each in files))


def main() -> None:
    """Print the table."""
    program = uv()
    if program is None:
        print("skipped: uv is neither on the path nor in .tools/bin; ./justw brings it")
        return
    print("| install | distributions | MiB on disk |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, extras) in enumerate(INSTALLS.items()):
            size = installed(program, Path(folder) / str(number), extras)
            print(f"| {name} | {size.distributions} | {size.content / MIB:.0f} |")


if __name__ == "__main__":
    main()

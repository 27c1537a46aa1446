"""Make the champion before this one champion again: `python -m calsvc.training.rollback [--reason TEXT] [--by WHO]`."""

import argparse
import sys

from calsvc.settings import Settings
from calsvc.training.command import run_command


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    from calsvc.training.promotion import rollback  # noqa: PLC0415 - NumPy reads its thread cap when it loads
    from calsvc.training.store import user_name  # noqa: PLC0415

    print(rollback(settings, arguments.by or user_name(), arguments.reason))


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="just rollback", description="Make the previous champion champion again.")
    parser.add_argument("--reason", default="no reason given", help="kept as a tag of both versions (%(default)s)")
    parser.add_argument("--by", help="who does it; kept as a tag (default: who is logged in)")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())

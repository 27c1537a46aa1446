"""Make a version champion: `python -m calsvc.training.promote [--version] [--margin] [--force --reason] [--on-live]`.

Compares the challenger with the champion on held-out rows, or on the truth that a running service has seen, and moves
the alias `champion` where the gate (`gate.py`) lets it pass. A refusal is exit code 1 and a line with the numbers.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from calsvc.http.errors import PromotionRefused
from calsvc.settings import Settings
from calsvc.training.command import run_command
from calsvc.training.holdout import FOLDER
from observability.addresses import service_argument
from observability.paths import given_path

MARGIN: Final = 0.02
_SAMPLES: Final = 200
_FEWEST_SAMPLES: Final = 30


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    # NumPy, polars and XGBoost read their thread caps when they load.
    from calsvc.training.judges import on_held_out_rows, on_live_truth  # noqa: PLC0415
    from calsvc.training.promotion import Wish, promote  # noqa: PLC0415
    from calsvc.training.store import user_name  # noqa: PLC0415

    if arguments.force and not arguments.reason:
        raise PromotionRefused("--force needs a --reason: it is kept with the version, for whoever asks later")
    data: Path = arguments.data / "stream.csv" if arguments.data.is_dir() else arguments.data
    if arguments.on_live:
        judge = on_live_truth(arguments.on_live, arguments.min_samples)
    else:
        judge = on_held_out_rows(settings, data, warn)
    version = None if arguments.version is None else str(arguments.version)
    wish = Wish(version, arguments.margin, arguments.by or user_name(), arguments.reason, arguments.force)
    print(promote(settings, wish, judge))


def warn(text: str) -> None:
    """Say what the judge thinks somebody should know."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def _margin(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError("a number of at least 0 is expected, 0.02 for 2 %")
    return value


def _at_least(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if value < lowest:
            raise argparse.ArgumentTypeError(f"a whole number of at least {lowest} is expected")
        return value

    return parse


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="just promote", description="Make the challenger champion, if it is as good.")
    add = parser.add_argument
    add("--version", type=_at_least(1), help="the version to promote (default: the one with the alias challenger)")
    add("--margin", type=_margin, default=MARGIN, help="how much worse its RMSLE may be, relative (%(default)s)")
    add("--data", type=given_path, default=FOLDER / "stream.csv", help="labelled rows to compare on (%(default)s)")
    add(
        "--on-live",
        type=service_argument,
        metavar="URL",
        help="compare by the truth that the service at URL has seen instead",
    )
    add("--min-samples", type=_at_least(_FEWEST_SAMPLES), default=_SAMPLES, help="truths needed there (%(default)s)")
    add("--force", action="store_true", help="promote although the gate says no; needs --reason")
    add("--reason", help="why; kept as a tag of the version")
    add("--by", help="who promotes; kept as a tag of the version (default: who is logged in)")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())

"""Set rows aside that the model never sees: `python -m calsvc.training.holdout [--data] [--fraction] [--seed] [--out]`.

Writes `train.csv` (for train.py), `stream.csv` (labelled rows to replay), `test.csv` (the handout's own, where it has
one) and `split.json` (where the rows came from). How a row's side is decided: `split.py`.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from calsvc.settings import Settings
from calsvc.training.command import run_command
from observability.paths import given_path

FOLDER: Final = Path("data/holdout")
FRACTION: Final = 0.2
SEED: Final = 0


def fraction_argument(text: str) -> float:
    """Parse the share of the rows to hold out."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError("a number between 0 and 1 is expected")
    return value


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    from calsvc.training.split import make_split  # noqa: PLC0415 - polars reads its thread cap when it loads

    split = make_split(
        settings.handout_dir, arguments.out, data=arguments.data, fraction=arguments.fraction, seed=arguments.seed
    )
    print(f"{split.source}: {split.train_rows} rows to train on, {split.stream_rows} to stream, in {arguments.out}")


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="just holdout", description="Set rows aside that the model never sees.")
    parser.add_argument("--data", type=given_path, help="CSV, or folder with train.csv (default: the handout's)")
    parser.add_argument("--fraction", type=fraction_argument, default=FRACTION, help="share to hold out (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed, another split (%(default)s)")
    parser.add_argument("--out", type=given_path, default=FOLDER, help="folder to write (%(default)s)")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())
